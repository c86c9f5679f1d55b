/* Availability.h: the SDK that programs are compiled against, as they ask for it. */
#ifndef VMNET_SIM_AVAILABILITY_H
#define VMNET_SIM_AVAILABILITY_H

#define __MAC_10_15 101500
#define __MAC_11_0 110000
#define __MAC_12_0 120000
#define __MAC_13_0 130000
#define __MAC_15_0 150000
#define __MAC_15_4 150400
#define __MAC_26_0 260000

#ifndef __MAC_OS_X_VERSION_MIN_REQUIRED
#define __MAC_OS_X_VERSION_MIN_REQUIRED __MAC_11_0
#endif
#define __MAC_OS_X_VERSION_MAX_ALLOWED __MAC_26_0
#define MAC_OS_X_VERSION_MAX_ALLOWED __MAC_OS_X_VERSION_MAX_ALLOWED
#define API_AVAILABLE(...)

#endif
