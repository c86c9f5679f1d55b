/* network.h: what interface.c needs of a network. */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include "fabric_client.h"

/* Names the network in the request that starts an interface on it. */
void sim_network_add(struct vmnet_network *network, struct sim_message *message);

#endif
