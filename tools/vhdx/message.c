/* What the command says when something is wrong.  All of it is escaped: names and strings come from strangers. */
#include "message.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static void
fill(struct vhdx_error *err, int code, int system_errno, const char *format, va_list arguments)
{
    *err = (struct vhdx_error){
        .code = code,
        .system_errno = system_errno,
        .file_offset = VHDX_NO_OFFSET,
    };
    vsnprintf(err->message, sizeof(err->message), format, arguments);
}

int
fail(struct vhdx_error *err, enum vhdx_code code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fill(err, code, 0, format, arguments);
    va_end(arguments);
    return code;
}

static enum vhdx_code
code_of_errno(int system_errno)
{
    switch (system_errno) {
    case ENOENT:
    case ENOTDIR:
        return VHDX_E_NOT_FOUND;
    case EACCES:
    case EPERM:
        return VHDX_E_PERMISSION;
    case EROFS:
        return VHDX_E_READ_ONLY;
    case EEXIST:
        return VHDX_E_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return VHDX_E_NO_SPACE;
    case ENOMEM:
        return VHDX_E_NO_MEMORY;
    case EFBIG:
    case ENAMETOOLONG:
        return VHDX_E_LIMIT;
    default:
        return VHDX_E_IO;
    }
}

int
fail_errno(struct vhdx_error *err, int system_errno, const char *format, ...)
{
    va_list arguments;
    size_t used;

    va_start(arguments, format);
    fill(err, code_of_errno(system_errno), system_errno, format, arguments);
    va_end(arguments);
    used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", strerror(system_errno));
    return err->code;
}

/*
 * What an error means for the data, and the command that helps; FILE stands for the file's name.  Codes that say
 * everything themselves ("no such file") are not here.
 */
static const struct message_advice advices[] = {
    { VHDX_E_NO_SPACE, "What was written before the last flush is kept; the rest is not.", NULL },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program, or read what lies there now with -U (--force-share)" },
    { VHDX_E_EXISTS, "Nothing was changed.", "--force writes over it" },
    { VHDX_E_CANCELLED, "What had been done so far is consistent.", NULL },
    { VHDX_E_FAILED, "What was written since the last good flush may be lost; everything flushed is safe.",
      "vhdx check FILE" },
    { VHDX_E_NEEDS_REPAIR, "The disk can be read; writing could make the damage worse, so it is refused.",
      "vhdx check FILE lists the damage and what mends it; vhdx check -r all --undo UNDO FILE mends it; vhdx convert FILE"
      " NEW.vhdx makes a sound copy if every block can be read" },
    { VHDX_E_NOT_VHDX, "Nothing in it was looked at or changed.",
      "if it is a raw disk, convert, compare and bench take it with -f raw" },
    { VHDX_E_TRUNCATED, "The end of the file is lost, perhaps in a download; what lay there cannot be read.",
      "vhdx check FILE" },
    { VHDX_E_INCOMPLETE, "The file holds no disk: the program that made it was stopped before the end.",
      "remove it and create it again" },
    { VHDX_E_BAD_HEADER, "Without a header nothing else in the file can be found.",
      "vhdx check -r headers --dry-run FILE tells what can be made new" },
    { VHDX_E_BAD_LOG, "Changes that were under way when the image was last in use cannot be finished: some of the"
      " disk may be older than the rest.",
      "vhdx check -r log FILE discards what cannot be replayed and tells what is lost; vhdx convert --ignore-log FILE"
      " NEW.vhdx copies the disk as it lies" },
    { VHDX_E_BAD_REGION, "The block table and the metadata cannot be found.",
      "vhdx check FILE; vhdx salvage FILE NEW.vhdx gets out what can be read" },
    { VHDX_E_BAD_METADATA, "The size and shape of the disk are not known for certain.",
      "vhdx check FILE; vhdx check -r metadata --dry-run FILE tells what the rest of the file proves" },
    { VHDX_E_BAD_BAT, "The block this is about cannot be read; the others can.",
      "vhdx check FILE; vhdx check -r bat --dry-run FILE tells what a repair would lose" },
    { VHDX_E_BAD_BITMAP, "The blocks that depend on it cannot be read; the others can.", "vhdx check FILE" },
    { VHDX_E_BAD_LOCATOR, "The parent of this image cannot be found from what it says.", "vhdx info FILE" },
    { VHDX_E_NO_PARENT, "This is a differencing image: what it does not hold itself lies in its parent.",
      "vhdx tree FOLDER shows which images fit together; --map C:=DIR tells where a drive of Windows is here;"
      " vhdx rebase --relink PARENT FILE writes the new place of a parent that was moved" },
    { VHDX_E_BAD_PARENT, "Read through the wrong parent, or one that was written after its child was made, a disk shows"
      " a mixture that no guest ever wrote.",
      "vhdx tree FOLDER shows which images fit together; vhdx rebase --relink PARENT CHILD, when that is its parent,"
      " unchanged in content" },
    { VHDX_E_BAD_VHD, "This is a VHD, the format before VHDX; what the damaged part leads to cannot be read.",
      "of a fixed VHD, -f raw takes the bytes as they are, the footer too" },
    { VHDX_E_HAS_CHILDREN, "They hold only what differs from it: if it is changed, what they show is lost.",
      "write to the last child of the chain, or take a copy; --orphan-children goes on all the same" },
};

/* Of the verb that runs; it goes before the general one. */
static const struct message_advice *verb_advices;
static size_t verb_advice_count;

void
message_advise(const struct message_advice *its_advices, size_t count)
{
    verb_advices = its_advices;
    verb_advice_count = count;
}

static const struct message_advice *
search_advices(const struct message_advice *list, size_t count, int code)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].code == code)
            return &list[i];
    }
    return NULL;
}

static const struct message_advice *
find_advice(int code)
{
    const struct message_advice *found = search_advices(verb_advices, verb_advice_count, code);

    return found != NULL ? found : search_advices(advices, sizeof(advices) / sizeof(advices[0]), code);
}

const char *
message_place(char text[MESSAGE_PLACE_SIZE], const struct vhdx_error *err)
{
    const char *separator = "";
    size_t used = 0;

    text[0] = '\0';
    if (err->rule != 0) {
        used += (size_t)snprintf(text + used, MESSAGE_PLACE_SIZE - used, "V%d", err->rule);
        separator = ", ";
    }
    /* "file" or "chain" alone says nothing that the message does not. */
    if (err->part != VHDX_PART_NONE
        && ((err->part != VHDX_PART_FILE && err->part != VHDX_PART_CHAIN) || err->rule != 0)) {
        used += (size_t)snprintf(text + used, MESSAGE_PLACE_SIZE - used, "%s%.40s", separator,
                                 vhdx_part_name(err->part));
        separator = ", ";
    }
    if (err->file_offset != VHDX_NO_OFFSET)
        snprintf(text + used, MESSAGE_PLACE_SIZE - used, "%soffset 0x%" PRIx64, separator, err->file_offset);
    return text;
}

/* Print a remedy with the file's name in every place of FILE. */
static void
print_remedy(const char *remedy, const char *file)
{
    const char *place;

    fputs("  Help: ", stderr);
    while (file != NULL && (place = strstr(remedy, "FILE")) != NULL) {
        fwrite(remedy, 1, (size_t)(place - remedy), stderr);
        text_print(stderr, file);
        remedy = place + strlen("FILE");
    }
    fprintf(stderr, "%s\n", remedy);
}

void
message_error(const char *file, const struct vhdx_error *err)
{
    const struct message_advice *advice = find_advice(err->code);
    char place[MESSAGE_PLACE_SIZE];

    flockfile(stderr); /* the lines of one message stay together */
    fputs("vhdx: ", stderr);
    if (file != NULL) {
        text_print(stderr, file);
        fputs(": ", stderr);
    }
    text_print(stderr, err->message[0] != '\0' ? err->message : vhdx_code_text(err->code));
    if (message_place(place, err)[0] != '\0')
        fprintf(stderr, " (%s)", place);
    fputc('\n', stderr);
    if (advice != NULL)
        fprintf(stderr, "  %s\n", advice->meaning);
    if (advice != NULL && advice->remedy != NULL)
        print_remedy(advice->remedy, file);
    funlockfile(stderr);
}

void
message_print(const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fputs("vhdx: ", stderr);
    text_print(stderr, text);
    fputc('\n', stderr);
}

void *
need_memory(void *memory)
{
    if (memory == NULL) {
        message_print("out of memory");
        exit(EXIT_FAILURE);
    }
    return memory;
}
