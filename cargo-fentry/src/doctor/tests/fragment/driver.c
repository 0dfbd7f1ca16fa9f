/* A file whose first function nobody calls. */
int gone_first(int x)
{
    return x * 11 + 1;
}

int kept(int x)
{
    return x * 13 + 1;
}
