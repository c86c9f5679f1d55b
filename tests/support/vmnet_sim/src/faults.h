/*
 * faults.h: failures on demand, by the environment variable VMNET_SIM_FAULTS: name[=value],name[=value]…
 *
 * README.md says what each does. A name that is not in this list ends the process: a test would else pass
 * without its fault.
 */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_FAULTS(fault)                                                                                              \
    fault(start_null) fault(start_status) fault(start_fail_times) fault(start_lost) fault(start_delay_ms)              \
        fault(stop_lost) fault(stop_status) fault(stop_delay_ms) fault(stop_refused)                                   \
            fault(read_status) fault(read_fail_every) fault(read_fail_times) fault(read_zero_every)                    \
                fault(write_status) fault(write_fail_every) fault(write_fail_times)                                    \
                    fault(estimate) fault(spurious_events) fault(callback_refused)                                     \
                        fault(forward_status) fault(forward_lost) fault(forward_refused_on_networks)                   \
                            fault(network_status) fault(network_hang) fault(subnet_zero_fails) fault(orphan_network)   \
                                fault(not_entitled) fault(list_null)

enum sim_fault {
#define SIM_FAULT_NUMBER(name) SIM_FAULT_##name,
    SIM_FAULTS(SIM_FAULT_NUMBER)
#undef SIM_FAULT_NUMBER
    SIM_FAULT_COUNT
};

/* Whether a fault was asked for; its value, 1 when none was given. */
bool sim_fault_set(enum sim_fault fault);
uint32_t sim_fault_value(enum sim_fault fault);
/* Whether this turn fails: by `every` (each Nth time), else by `times` (the first N), else always. */
bool sim_fault_turn(enum sim_fault status, int every, int times);
#define SIM_NO_FAULT (-1)

#endif
