/* Cases of runtime/device that start threads: run by Criterion (test_device.c) and, as Criterion
 * does not work under ThreadSanitizer, by a plain program (tests/tsan). They abort on failure. */
#ifndef DEVCASES_H
#define DEVCASES_H

#define DEV_CASES(CASE)                                                                            \
    CASE(one_inference)                                                                            \
    CASE(contexts_are_the_backpressure)                                                            \
    CASE(many_clients_one_worker)                                                                  \
    CASE(many_clients_three_workers)                                                               \
    CASE(host_steps_between_device_steps)                                                          \
    CASE(a_bad_index_fails_its_request_only)                                                       \
    CASE(truncated_weights_fail_their_model_only)                                                  \
    CASE(memory_is_accounted)                                                                      \
    CASE(groups_and_replicas)                                                                      \
    CASE(an_idle_system_sleeps)                                                                    \
    CASE(a_stopped_execution_leaves_its_model_whole)                                               \
    CASE(what_nobody_wants_never_begins)                                                           \
    CASE(who_falls_asleep_leaves_all_steps_to_others)

#define CASE(name) void dev_case_##name(void);
DEV_CASES(CASE)
#undef CASE

#endif
