/* CoreFoundation/CoreFoundation.h: reference counts of the network API's objects, and nothing else. */
#ifndef VMNET_SIM_COREFOUNDATION_H
#define VMNET_SIM_COREFOUNDATION_H

#ifdef __cplusplus
extern "C" {
#endif

typedef const void *CFTypeRef;
CFTypeRef CFRetain(CFTypeRef object);
void CFRelease(CFTypeRef object);

#ifdef __cplusplus
}
#endif
#endif
