/* The provider's folder of Debian packages for guests that install offline. */
#ifndef API_PACKAGES_H
#define API_PACKAGES_H

#include "base/error.h"

enum packages_limits {
    PACKAGES_MAX = 64, /* a guest needs about five with what they depend on */
};

/**
 * packages_check() - Whether a folder can go into a seed volume
 * @dir:   holds *.deb files, at least one; other files are not looked at
 * Return: 0; -ENOENT no folder or no package; -EINVAL a file that is not a Debian package (err names it); -E2BIG
 * Thread: any
 * Source: deb(5): an ar archive whose first member is "debian-binary"
 */
int packages_check(const char *dir, struct error *err);

#endif
