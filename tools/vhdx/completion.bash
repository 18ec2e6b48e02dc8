# Completion of vhdx for bash.  Verbs and options are read from the command's own help, so that they are always those of
# the version that runs.

_vhdx()
{
    local cur prev verb
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD-1]}
    verb=${COMP_WORDS[1]}
    COMPREPLY=()

    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "$("$1" --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p') --help --version" \
            -- "$cur"))
        return
    fi

    # The word after "--option=" is alone: bash splits words at "=".
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $prev in
    -f | -F | --format | --second-format)
        COMPREPLY=($(compgen -W 'vhdx vhd raw qcow2 vmdk vdi' -- "$cur"))
        return ;;
    -O | --output-format)
        COMPREPLY=($(compgen -W 'vhdx vhd raw' -- "$cur"))
        return ;;
    --output)
        COMPREPLY=($(compgen -W 'json human' -- "$cur"))
        return ;;
    --for)
        COMPREPLY=($(compgen -W 'azure' -- "$cur"))
        return ;;
    --type)
        COMPREPLY=($(compgen -W 'dynamic fixed differencing' -- "$cur"))
        return ;;
    --preallocate)
        COMPREPLY=($(compgen -W 'off falloc full' -- "$cur"))
        return ;;
    --logical-sector | --physical-sector | --source-sector)
        COMPREPLY=($(compgen -W '512 4096' -- "$cur"))
        return ;;
    --guess)
        COMPREPLY=($(compgen -W 'none strong all' -- "$cur"))
        return ;;
    --is)
        COMPREPLY=($(compgen -W 'differencing fixed dynamic dirty' -- "$cur"))
        return ;;
    -r | --repair)
        if [ "$verb" = check ]; then
            COMPREPLY=($(compgen -W 'headers regions log metadata bat leaks all' -- "$cur"))
            return
        fi ;;
    -o)
        if [ "$verb" = mount ]; then
            COMPREPLY=($(compgen -W 'allow_other uid= gid= umask= noexec noatime' -- "$cur"))
            return
        fi ;;
    --also)
        COMPREPLY=($(compgen -d -- "$cur"))
        return ;;
    --parents)
        COMPREPLY=($(compgen -W 'none same-dir any' -- "$cur") $(compgen -d -- "$cur"))
        return ;;
    esac

    if [ "${cur#-}" != "$cur" ]; then
        COMPREPLY=($(compgen -W "$("$1" "$verb" --help 2>/dev/null | sed -n 's/^ .*\(--[a-z-]\{1,\}\).*/\1/p' \
            | sort -u)" -- "$cur"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$cur"))
        if [ "$verb" = meta ] && [ "$COMP_CWORD" -eq 2 ]; then
            COMPREPLY=($(compgen -W 'list get set rm' -- "$cur"))
        elif [ "$verb" = meta ]; then
            COMPREPLY+=($(compgen -W 'disk-id physical-sector new' -- "$cur"))
        elif [ "$verb" = resize ]; then
            COMPREPLY+=($(compgen -W min -- "$cur"))
        elif [ "$verb" = unmount ]; then
            COMPREPLY=($(compgen -d -- "$cur"))
        fi
    fi
}
complete -F _vhdx vhdx
