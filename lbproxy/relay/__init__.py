"""How bytes move. Knows file descriptors, not servers; compiled by mypyc where there is a compiler."""
