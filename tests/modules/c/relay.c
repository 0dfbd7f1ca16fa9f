/*
 * A module in C that the boot test loads: compiled by each compiler that is there, with two NOPs at each function's entry
 * and with two more before it.
 */

typedef unsigned long u64;

struct export {
	const char *name;
	u64 name_bytes;
	const void *address;
};

#define EXPORT(function)                                                              \
	static const struct export export_##function                                  \
		__attribute__((used, section(".fentry.exports"))) = {                  \
		#function, sizeof(#function) - 1, (const void *)function               \
	}

extern void kernel_note(const char *text, u64 bytes);
extern const u64 KERNEL_NUMBER;
extern u64 kernel_total(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j);
extern void kernel_may_have(void) __attribute__((weak));

/* In zeros, in COMMON where the compiler still does that, in data with an address. */
static u64 calls[512];
u64 relay_last;
static u64 *last = &relay_last;

__attribute__((noinline)) static u64 weight(u64 number)
{
	switch (number % 7) {
	case 0: return 3;
	case 1: return 14;
	case 2: return 15;
	case 3: return 92;
	case 4: return 65;
	case 5: return 35;
	default: return 89;
	}
}

__attribute__((section(".init.text"))) int fentry_module_init(void)
{
	static const char here[] = "relay: here";
	kernel_note(here, sizeof(here) - 1);
	return KERNEL_NUMBER == 0;
}

void fentry_module_exit(void)
{
	kernel_note("relay: bye", 10);
}

/* Passes ten arguments on to the kernel. */
u64 relay_total(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j)
{
	calls[a % 512] += 1;
	*last = a;
	if (kernel_may_have)
		kernel_may_have();
	return kernel_total(a, b, c, d, e, f, g, h, i, j) + 1;
}
EXPORT(relay_total);

#ifndef WITHOUT_FLOAT
extern double kernel_sum(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j,
			 double k, double l, double m, double n, double o, double p, double q, double r,
			 double s, double t);

/* Passes twenty arguments on to the kernel. */
double relay_sum(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j,
		 double k, double l, double m, double n, double o, double p, double q, double r,
		 double s, double t)
{
	return kernel_sum(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t) + 0.5;
}
EXPORT(relay_sum);
#endif

u64 relay_weight(u64 number)
{
	return weight(number) + calls[number % 512] + relay_last;
}
EXPORT(relay_weight);
