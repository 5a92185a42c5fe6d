# fish completion of sonarctl, sonalyze and naicreport: the programs themselves say what may follow.
function __sonar_commands
    sonarctl --complete (commandline -opc) 2>/dev/null
end
for program in sonarctl sonalyze naicreport
    complete -c $program -a '(__sonar_commands)'
end
