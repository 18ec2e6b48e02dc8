#compdef vhdx
# Completion of vhdx for zsh.  Verbs and options are read from the command's own help, so that they are always those of the
# version that runs.

_vhdx_verbs() {
    local -a verbs
    verbs=(${(f)"$($1 --help 2>/dev/null | sed -n 's/^  \([a-z-]\{1,\}\)  *\(.*\)/\1:\2/p')"})
    _describe -t verbs verb verbs
}

# What may follow an option: words, a folder, or a file.
_vhdx_values() {
    case $1 in
    -f | -F | -O | --format | --second-format | --output-format) _values format vhdx raw vhd ;;
    --output) _values output json human ;;
    --type) _values type dynamic fixed differencing ;;
    --preallocate) _values preallocation off falloc full ;;
    --logical-sector | --physical-sector) _values sector 512 4096 ;;
    --is) _values what differencing fixed dynamic dirty ;;
    --parents) _alternative 'words:where parents may be:(none same-dir any)' 'folders:folder:_files -/' ;;
    --also) _files -/ ;;
    *) return 1 ;;
    esac
}

_vhdx() {
    local command=$words[1] verb=$words[2] previous=$words[CURRENT-1] current=$words[CURRENT]
    local -a options

    if (( CURRENT == 2 )); then
        _vhdx_verbs $command
        return
    fi
    if [[ $current == --*=* ]]; then
        compset -P '*='
        _vhdx_values ${current%%=*} || _files
        return
    fi
    _vhdx_values $previous && return
    if [[ $current == -* ]]; then
        options=(${(f)"$($command $verb --help 2>/dev/null | sed -n 's/^ \{2,6\}\(-., \)\{0,1\}\(--[a-z-]\{1,\}\)[^ ]*  *\(.*\)/\2:\3/p')"})
        _describe -o -t options option options
        return
    fi
    if [[ $verb == meta ]]; then
        if (( CURRENT == 3 )); then
            _values action list get set rm
        else
            _alternative 'items:item:(disk-id physical-sector new)' 'files:file:_files'
        fi
        return
    fi
    _files
}

_vhdx "$@"
