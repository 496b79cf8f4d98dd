/* What the library tells of itself: which source it was built from, and what runs on this processor. */
#define EXPORT __attribute__((visibility("default")))

EXPORT const char *source_digest(void) { return SOURCE_DIGEST; }

/* The widest instruction set that was built and that processor and system have. */
EXPORT const char *instruction_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "baseline";
}
