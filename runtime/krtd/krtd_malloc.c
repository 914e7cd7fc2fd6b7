/* How jemalloc is set up in krtd: memory that models, connections and large messages have given
 * back leaves the process within seconds, without anybody having to allocate something for that: a
 * thread of jemalloc's, which sleeps while there is nothing to give back, does it. Threads keep
 * small pieces only. */
extern const char *malloc_conf;
const char *malloc_conf =
    "background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0,lg_tcache_max:12";
