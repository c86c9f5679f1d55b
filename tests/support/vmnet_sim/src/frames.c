/*
 * frames.c: vmnet_read and vmnet_write: straight from and to the TAP, whose queue of 256 frames plays the
 * framework's ring.
 */
#include <errno.h>
#include <unistd.h>

#include "faults.h"
#include "interface.h"
#include "report.h"

vmnet_return_t vmnet_read(interface_ref handle, struct vmpktdesc *packets, int *pktcnt) {
    vmnet_return_t status;
    struct vmnet_interface *interface = sim_interface_running(handle, "vmnet_read", &status);
    if (!interface)
        return status;
    status = sim_check_packets(interface, packets, pktcnt, false);
    if (status != VMNET_SUCCESS)
        return status;
    if (sim_fault_turn(SIM_FAULT_read_status, SIM_FAULT_read_fail_every, SIM_FAULT_read_fail_times))
        return sim_fault_value(SIM_FAULT_read_status);
    int wanted = *pktcnt, got = 0;
    if (sim_fault_turn(SIM_FAULT_read_zero_every, SIM_FAULT_read_zero_every, SIM_NO_FAULT))
        wanted = 0;
    pthread_rwlock_rdlock(&interface->tap_lock);
    if (interface->tap < 0) { /* stopped meanwhile */
        pthread_rwlock_unlock(&interface->tap_lock);
        return VMNET_FAILURE;
    }
    for (; got < wanted; got++) {
        struct vmpktdesc *packet = &packets[got];
        void *room = packet->vm_pkt_iov->iov_base;
        ssize_t length = interface->hidden_header ? sim_offload_read(interface, room, packet->vm_pkt_size)
                                                  : read(interface->tap, room, packet->vm_pkt_size);
        if (length < 0) {
            if (errno != EAGAIN && got == 0)
                status = VMNET_FAILURE;
            break;
        }
        packet->vm_pkt_size = (size_t)length;
    }
    if (status == VMNET_SUCCESS) {
        sim_watch_read(interface, *pktcnt, got);
        *pktcnt = got;
    }
    pthread_rwlock_unlock(&interface->tap_lock);
    return status;
}

vmnet_return_t vmnet_write(interface_ref handle, struct vmpktdesc *packets, int *pktcnt) {
    vmnet_return_t status;
    struct vmnet_interface *interface = sim_interface_running(handle, "vmnet_write", &status);
    if (!interface)
        return status;
    /* All or nothing: every packet is looked at before the first is sent. */
    status = sim_check_packets(interface, packets, pktcnt, true);
    if (status != VMNET_SUCCESS)
        return status;
    if (sim_fault_turn(SIM_FAULT_write_status, SIM_FAULT_write_fail_every, SIM_FAULT_write_fail_times))
        return sim_fault_value(SIM_FAULT_write_status);
    pthread_rwlock_rdlock(&interface->tap_lock);
    if (interface->tap < 0)
        status = VMNET_FAILURE;
    for (int i = 0; i < *pktcnt && status == VMNET_SUCCESS; i++) {
        const struct iovec *frame = packets[i].vm_pkt_iov;
        ssize_t length = interface->hidden_header ? sim_offload_write(interface, frame->iov_base, frame->iov_len)
                                                  : write(interface->tap, frame->iov_base, frame->iov_len);
        if (length < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
            status = VMNET_BUFFER_EXHAUSTED;
        else if (length < 0 && errno == EINVAL)
            status = VMNET_INVALID_ARGUMENT;
        else if (length < 0)
            status = VMNET_FAILURE;
    }
    pthread_rwlock_unlock(&interface->tap_lock);
    return status;
}
