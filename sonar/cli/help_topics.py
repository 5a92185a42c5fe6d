"""What `sonalyze help TOPIC` tells: a screen about each thing that all verbs share, with examples to start from."""

__all__ = ["TOPICS"]

_SOURCES = """\
Where samples come from, the first that is given:

  -- FILE ...                        files, of whatever generation of the sampler
  --data-path DIR                    the log tree of one cluster: DIR/YYYY/MM/DD/HOST.csv and the like
  --jobanalyzer-dir DIR --cluster C  a directory of many clusters, with their descriptions and reports
  --remote URL --cluster C           a server, sonalyzed(8); --auth-file, ~/.netrc or $SONALYZE_AUTH say who asks
  $SONAR_ROOT, else ~/sonar/data     a log tree, where nothing else is given

~/.sonalyze has defaults of these, so that nobody need type them:

  [data-source]
  remote = https://monitor.example.org
  cluster = fox
"""

_FILTERING = """\
Which samples count; several options hold together, and each may be given again or take a list:

  --host c1-[5-7],gpu*     hosts that match; before anything else
  -u ann,bob               users; - is everyone. For jobs and profile the default is yourself
  --exclude-user root      --command python      --exclude-command bash      -j 1234      --exclude-job 1234
  --exclude-system-jobs    no processes with a number below 1000

Which rows are printed, by what was found out of the samples:

  --min-cpu-avg 100 and the like, of jobs
  -q 'user =~ /^ec-/ and duration > 1h'                       any field; = < <= > >= =~, and or not, ( )
  -q "hosts <= 'gpu-[1-3]' or not SomeGpu = yes"             sets: <= is within, >= has all of
  --sort=-cpu-avg,user                                        order; - before a field for descending
"""

_PRINTING = """\
--fmt takes words joined by commas: fields, groups of fields, and how to print them. --fmt=help lists those of a verb.

  --fmt=std,cpu,cmd               groups and fields, in this order
  --fmt=csv,header,job,user       csv, csvnamed (name=value), json, native (JSON with numbers), awk, fixed
  --fmt=default,res               what is printed without --fmt, and more
  --fmt=start/sec,end/iso         seconds since 1970; RFC 3339
  --fmt=arrow,All  -o jobs.arrow  an Arrow stream; parquet for a Parquet file
  --fmt=std,noheader,tag:today    without titles; a last column with a word of yours

On a terminal columns are fitted to its width and long answers are paged; load and profile draw with --fmt=chart.
"""

_TIME = """\
All times are UTC. --from and --to are inclusive, and each is one of

  2024-03-31   that day: from its start on, up to its end
  3d  2w       three days, two weeks before now, to the second

Without them the window is the last 24 hours (config: 14 days, job and explain: 7 days); of files after -- it is what
they hold. Durations are written 1w2d3h4m: --min-runtime 2h, -q 'duration > 1d'.
"""

TOPICS = {
    "data-sources": ("where samples come from", _SOURCES),
    "filtering": ("which samples count, which rows are printed", _FILTERING),
    "printing": ("fields and formats", _PRINTING),
    "time": ("windows and durations", _TIME),
}
"""By name: what it is about, and the text."""
