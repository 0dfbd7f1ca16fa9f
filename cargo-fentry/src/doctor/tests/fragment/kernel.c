/* A kernel in C: functions that are called, by name and by address, and functions that nobody calls. */
unsigned fentry_init(void *to, const void *from);
void *memcpy(void *to, const void *from, unsigned long bytes);
int kept(int x);

static const char text[] = "read only";
const char *volatile where = text;

__attribute__((noinline)) int called(int x)
{
    return x * 3;
}

int (*volatile indirect)(int) = called;

__attribute__((noinline)) static int local(int x)
{
    return indirect(x) ^ 0x55;
}

void kernel_main(void)
{
    char to[64], from[64];

    where = memcpy(to, from, sizeof(to));
    fentry_init(to, from);
    indirect(local(kept(3)));
}

int gone(int x)
{
    return x * 7 + 1;
}
