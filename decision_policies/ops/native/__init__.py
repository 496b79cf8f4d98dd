"""The native library: plain C, built when the package is installed where a compiler is at hand."""
