/*
 * A module in C with an ops struct: tables of it, stubs for its members, and a function that calls by it. Compiled as the
 * kernel is, with its hashes where the kernel checks calls by pointers.
 */

typedef unsigned long u64;

struct export {
	const char *name;
	u64 name_bytes;
	const void *address;
};

#define EXPORT(symbol)                                                                \
	static const struct export export_##symbol                                    \
		__attribute__((used, section(".fentry.exports"))) = {                  \
		#symbol, sizeof(#symbol) - 1, (const void *)&symbol                    \
	}

struct policy_ops {
	u64 (*pick)(u64 waiting, u64 last);
	/* May be NULL. */
	void (*sent)(unsigned int number);
};

/* One for each member, of its type. Nobody calls them. */
u64 policy_pick_stub(u64 waiting, u64 last)
{
	return waiting ^ last;
}
EXPORT(policy_pick_stub);

void policy_sent_stub(unsigned int number)
{
	(void)number;
}
EXPORT(policy_sent_stub);

/* Who calls by a table. (A pointer to a struct that is named in Rust would be of another type.) */
u64 policy_call(const void *table, u64 waiting, u64 last)
{
	const struct policy_ops *policy = table;

	return policy->pick(waiting, last) + 1;
}
EXPORT(policy_call);

u64 policy_total;

static u64 newest(u64 waiting, u64 last)
{
	return 100 * waiting + last;
}

static void sent(unsigned int number)
{
	policy_total += number;
}

static void sent_of_another_type(u64 number)
{
	policy_total += number;
}

/* With another number of instructions between what is before it and its entry. */
__attribute__((patchable_function_entry(OTHER_ENTRY))) static u64 elsewhere(u64 waiting, u64 last)
{
	return waiting - last;
}

const struct policy_ops policy_newest = { newest, sent };
EXPORT(policy_newest);

const struct policy_ops policy_of_another_type = { newest, (void (*)(unsigned int))sent_of_another_type };
EXPORT(policy_of_another_type);

struct policy_ops policy_elsewhere = { 0, sent };
EXPORT(policy_elsewhere);

int fentry_module_init(void)
{
	/* Not in data, where a checker would find it. */
	policy_elsewhere.pick = elsewhere;
	return 0;
}

void fentry_module_exit(void)
{
}
