#include "base/landlock.h"

#ifdef OMERTAD_CONFINED

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/scope.h"

/* Headers are older than kernels: what came after the first version stands here. */
enum landlock_versions {
    WITH_REFER = 2, /* moving a file to another folder */
    WITH_TRUNCATE = 3,
    WITH_TCP = 4,
    WITH_IOCTL = 5, /* of devices */
};

enum landlock_rights {
    RIGHTS_FIRST = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, /* all of the first version */
    RIGHT_REFER = 1 << 13,
    RIGHT_TRUNCATE = 1 << 14,
    RIGHT_IOCTL = 1 << 15,
    RIGHTS_TCP = 3, /* bind, connect */

    RIGHTS_READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
    RIGHTS_CHANGE = RIGHTS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_REG |
                    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR,
    RIGHTS_OF_FILES = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE,
};

/** struct ruleset - struct landlock_ruleset_attr of the fourth version; older kernels want what they do not know to be 0. */
struct ruleset {
    uint64_t files;
    uint64_t tcp;
};

int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

static struct ruleset given_up(int version)
{
    return (struct ruleset){
        .files = (uint64_t)RIGHTS_FIRST | (version >= WITH_REFER ? RIGHT_REFER : 0U) |
                 (version >= WITH_TRUNCATE ? RIGHT_TRUNCATE : 0U) | (version >= WITH_IOCTL ? RIGHT_IOCTL : 0U),
        .tcp = version >= WITH_TCP ? RIGHTS_TCP : 0U,
    };
}

static int add_rule(int ruleset_fd, const struct ruleset *all, const struct landlock_rule *rule)
{
    int fd SCOPED_FD = open(rule->path, O_PATH | O_CLOEXEC);
    struct stat found;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
    if (fstat(fd, &found) != 0)
        return -errno;
    uint64_t rights = all->files & (rule->access == LANDLOCK_CHANGE ? (uint64_t)RIGHTS_CHANGE : RIGHTS_READ);
    if (!S_ISDIR(found.st_mode))
        rights &= RIGHTS_OF_FILES;
    const struct landlock_path_beneath_attr beneath = {.allowed_access = rights, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0 ? -errno : 0;
}

int landlock_enter(const struct landlock_rule *rules, size_t count)
{
    const int version = landlock_version();
    if (version == 0)
        return 0;
    const struct ruleset all = given_up(version);
    int fd SCOPED_FD = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < count; at++) {
        int rc = add_rule(fd, &all, &rules[at]);
        if (rc < 0)
            return rc;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return syscall(SYS_landlock_restrict_self, fd, 0) != 0 ? -errno : 0;
}

#else

int landlock_version(void)
{
    return 0;
}

int landlock_enter(const struct landlock_rule *rules, size_t count)
{
    (void)rules;
    (void)count;
    return 0;
}

#endif
