/*
 * The pieces of finding parents (include/vhdx/parents.h): text, then files, then the search.  src/ops uses the
 * text.
 *
 * A path "here" is canonical: absolute, no empty, "." or ".." component, and no slash at its end but for "/"
 * itself.
 */
#ifndef VX_PARENTS_H
#define VX_PARENTS_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include <vhdx/parents.h>

#define VX_PATH_SIZE 4096u /* bytes of a path with its NUL; what is longer is refused */

/* --- parents_path.c: text alone, nothing is opened.  *why is a static string, a few words for a message. --- */

/* A relative_path with slashes, ".." only at its front. */
bool vx_path_from_relative(char out[VX_PATH_SIZE], const char *windows, const char **why);

/* An absolute path of Windows, taken apart. */
struct vx_windows_path {
    char root[VX_PATH_SIZE]; /* "C:", "\\server\share" or "Volume{...}" */
    char tail[VX_PATH_SIZE]; /* what is below, with slashes, maybe empty */
};
bool vx_path_from_absolute(struct vx_windows_path *out, const char *windows, const char **why);

/* `tail`, as the two functions above give it, seen from the folder `folder`.  The result is canonical. */
bool vx_path_join(char out[VX_PATH_SIZE], const char *folder, const char *tail, const char **why);

/* The part of a canonical path that lies below a canonical folder ("" for the folder itself), or NULL. */
const char *vx_path_below(const char *folder, const char *path);

/* ".vhdx" for ".avhdx" and the other way round.  False when the name has neither. */
bool vx_path_other_extension(char *out, size_t size, const char *name);

/*
 * Would Windows take two names for one?  ASCII letters fold always; others by the simple, one to one upper case of
 * the locale "C.UTF-8" where the system has it, which is what NTFS does but for some hundred rare letters.
 */
bool vx_names_match(locale_t locale, const char *a, const char *b);

/* The other direction, for new locators.  Paths here are canonical; the results are UTF-8 with backslashes. */
bool vx_windows_relative(char out[VX_PATH_SIZE], const char *folder, const char *path, const char **why);
bool vx_windows_absolute(char out[VX_PATH_SIZE], const char *root, const char *root_tail, const char *below,
                         const char **why);

/* --- parents_open.c: opening what a stranger's path names --- */

struct vx_found_file {
    int         descriptor;
    struct stat status;
    char        name[VX_PATH_SIZE]; /* canonical, no symbolic link in it */
};

/*
 * Open the regular file `tail` below `folder` for reading, names matched as Windows does where they are not there
 * exactly, the other extension tried last.  Neither ".." nor a symbolic link leads out of the folder, whatever
 * happens to the files meanwhile.  The folder is trusted and canonical.
 *
 *   only_here  the file lies in the folder itself, not below
 *   returns    false with *why, a static string, when there is no such file or it must not be opened
 */
bool vx_open_below(struct vx_found_file *out, const char *folder, bool only_here, const char *tail, locale_t locale,
                   const char **why);

/* --- parents.c: the policy, which parents_search.c goes by --- */

struct vx_path_map {
    char *root, *tail; /* of the Windows side, as vx_windows_path has them */
    char *folder;      /* canonical */
};

struct vx_handed_in {
    int   descriptor; /* borrowed */
    char *name;
};

struct vhdx_parents {
    enum vhdx_parents_mode mode;
    locale_t               locale;
    char                 **folders; /* canonical, shortest first: of nested ones the outer allows more */
    size_t                 folder_count;
    struct vx_path_map    *maps; /* longest `folder` first */
    size_t                 map_count;
    struct vx_handed_in   *handed_in;
    size_t                 handed_in_count;
};

/* vhdx_parents_resolve, and the file of the first candidate that is there with another DataWriteGuid: VX_PATH_SIZE
 * bytes, left alone when there is none; may be NULL. */
int vx_parents_search(const struct vhdx_parents *parents, const struct vhdx_parent_query *query,
                      struct vhdx_storage **out, char *mismatch_path, struct vhdx_error *err);

/* "/mnt/c" for "C:", when that folder exists. */
bool vx_path_wsl_folder(char out[VX_PATH_SIZE], const char *drive);

#endif
