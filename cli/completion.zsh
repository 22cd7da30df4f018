#compdef sandboxctl
# zsh completion for sandboxctl.  To load it into this shell: . <(sandboxctl completion zsh)

_sandboxctl()
{
        local word meaning
        local -a candidates

        while IFS=$'\t' read -r word meaning; do
                if [[ $word == :files ]]; then
                        compset -P '--*='
                        _files
                        return
                fi
                candidates+=("${word//:/\\:}${meaning:+:$meaning}")
        done < <("${words[1]}" complete -- "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)
        _describe sandboxctl candidates
}

if [[ ${funcstack[1]} == _sandboxctl ]]; then
        _sandboxctl "$@"
else
        compdef _sandboxctl sandboxctl
fi
