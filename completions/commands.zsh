#compdef sonarctl sonalyze naicreport
# zsh completion of sonarctl, sonalyze and naicreport: the programs themselves say what may follow.
local -a words_so_far candidates
words_so_far=("${words[1]:t}" "${(@)words[2,CURRENT-1]}")
candidates=("${(@f)$(sonarctl --complete "${words_so_far[@]}" 2>/dev/null)}")
compadd -a candidates || _files
