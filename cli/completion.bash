# bash completion for sandboxctl.  To load it into this shell: . <(sandboxctl completion bash)
# shellcheck shell=bash

_sandboxctl()
{
        local words=() last='' word kept

        # bash cuts words at = and : too; sandboxctl gets them whole.
        for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
                if [[ ${#words[@]} -gt 0 && ($word == [=:]* || $last == [=:]*) ]]; then
                        words[-1]+=$word
                else
                        words+=("$word")
                fi
                last=$word
        done
        [[ $last == [=:]* ]] && last=''
        kept=${words[-1]%"$last"} # of the word at the cursor, what bash leaves as it is

        COMPREPLY=()
        while IFS=$'\t' read -r word _; do
                if [[ $word == :files ]]; then
                        compopt -o default
                else
                        COMPREPLY+=("${word#"$kept"}")
                fi
        done < <("$1" complete -- "${words[@]}" 2>/dev/null)
}
complete -F _sandboxctl sandboxctl
