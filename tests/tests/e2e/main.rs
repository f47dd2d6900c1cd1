//! netd as its users meet it: the built executables, real namespaces, real traffic.

mod bridge;
