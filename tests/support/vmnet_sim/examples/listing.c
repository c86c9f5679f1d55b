/*
 * listing.c: what can be bridged, by a program that includes nothing but the framework's header: on a Mac that
 * brings the C library's usual names, UUIDs and the version of the SDK along.
 */
#include <vmnet/vmnet.h>

#if __MAC_OS_X_VERSION_MAX_ALLOWED < 101500
#error "macOS 10.15 or later is needed"
#endif

int main(void) {
    uuid_t id;
    uuid_string_t room;
    uuid_generate_random(id);
    uuid_unparse(id, room);
    const char *text = room;
    signal(SIGPIPE, SIG_IGN);
    __block int status = 1;
    static dispatch_once_t once;
    dispatch_once(&once, ^{
        status = strlen(text) == 36 ? 0 : 1;
    });
    dispatch_async(dispatch_get_main_queue(), ^{
        xpc_object_t names = vmnet_copy_shared_interface_list();
        dispatch_group_t group = dispatch_group_create();
        for (size_t i = 0; i < xpc_array_get_count(names); i++) {
            dispatch_group_enter(group);
            dispatch_async(dispatch_get_global_queue(QOS_CLASS_DEFAULT, 0), ^{
                printf("%s\n", xpc_array_get_string(names, i));
                dispatch_group_leave(group);
            });
        }
        dispatch_group_wait(group, DISPATCH_TIME_FOREVER);
        dispatch_release(group);
        xpc_release(names);
        dispatch_after(dispatch_time(DISPATCH_TIME_NOW, 10 * NSEC_PER_MSEC), dispatch_get_main_queue(), ^{
            exit(status);
        });
    });
    dispatch_main();
}
