# bash completion of sonarctl, sonalyze and naicreport: the programs themselves say what may follow.
_sonar_commands() {
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$(sonarctl --complete "${COMP_WORDS[@]:0:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _sonar_commands sonarctl sonalyze naicreport
