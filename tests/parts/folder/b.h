/* Imported with its folder. */
struct b { char c[3]; };
