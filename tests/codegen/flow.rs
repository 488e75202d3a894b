//! Control flow: branches, loops of every kind, and the ways out of them.
