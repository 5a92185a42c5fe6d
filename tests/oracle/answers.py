"""The verbs once more, record by record, straight from the rules of sonalyze(1): slow, exact, and easy to check.

Sums and means are of fractions, so no order of adding and no rounding can matter; nothing here uses the program's code.
`answer` is the one entry: files and options as they would be typed in, the text of standard output out.
"""

import json
from typing import Any

from tests.oracle import batch, jobs, load, nodes, parse, profile, system, texts, uptime
from tests.oracle.question import Files, Options, Question, asked, limit

__all__ = ["DEFAULT_FIELDS", "DEFAULT_LENGTH", "VERBS", "Options", "Question", "answer", "limit"]

VERBS: dict[str, Any] = {
    "jobs": jobs.jobs, "job": jobs.job, "load": load.load, "uptime": uptime.uptime, "profile": profile.profile,
    "parse": parse.parse, "metadata": parse.metadata, "cluster": nodes.cluster, "config": nodes.config,
    "node": nodes.node, "card": nodes.card, "gpu": system.gpu, "nodeprof": system.nodeprof,
    "diskprof": system.diskprof, "top": system.top, "sacct": batch.sacct, "snode": batch.snode, "spart": batch.spart,
}  # fmt: skip
DEFAULT_FIELDS = {
    "jobs": "jobm,user,duration,host,cpu-avg,cpu-peak,mem-avg,mem-peak,gpu-avg,gpu-peak,gpumem-avg,gpumem-peak,cmd",
    "load": "date,time,cpu,mem,gpu,gpumem",
    "uptime": "device,host,state,start,end",
    "profile": "time,cpu,mem,gpu,gpumem,nproc,cmd",
    "parse": "job,user,cmd",
    "metadata": "host,earliest,latest",
    "cluster": "cluster,aliases,desc",
    "config": "host,cores,mem,gpus,gpumem,desc",
    "node": "host,cores,mem,gpus,gpumem,desc",
    "card": "Node,Index,Manufacturer,Model,Memory",
    "gpu": "Hostname,Gpu,Timestamp,Memory,PowerDraw",
    "nodeprof": "Timestamp,Hostname,UsedMemory,Load1,Load5,RunnableEntities",
    "diskprof": "Timestamp,Hostname,Name,MsReading,MsWriting",
    "top": "host,time,cores",
    "sacct": "JobID,JobName,User,Account,rcpu,rmem",
    "snode": "nodes,states",
    "spart": "part,nodes",
}
DEFAULT_LENGTH = {"config": 14, "job": 7}  # days; of the others one
STYLES = ("csvnamed", "csv", "json", "awk", "fixed")


def answer(verb: str, question: Question, files: Files, *, tree: bool = False) -> str:
    """Return what the program prints. Of a tree, names are the paths below its root."""
    log = asked(verb, question, files, tree=tree, days=DEFAULT_LENGTH.get(verb, 1))
    rows, blocks = VERBS[verb](log)
    words = question.one("fmt", DEFAULT_FIELDS.get(verb, "")).split(",")
    fields = [word for word in words if word not in {*STYLES, "header"}]
    default = "csv" if verb in ("parse", "metadata") else "fixed"
    style = next((style for style in STYLES if style in words), default)
    if verb == "top":
        return system.top_text(rows)
    if verb == "profile":
        if not question.has("fmt"):
            fields = [field for field in fields if field != "nproc" or any(row["nproc"] for row in rows)]
            fields += ["host"] if profile.is_on_several_hosts(rows) else []
        if style == "json":
            return profile.as_json(rows, int(question.one("job")), fields)
        if style == "csv":
            return profile.as_csv(rows, fields[0])
    if blocks is None:
        return texts.table(rows, fields, style, header="header" in words)
    text = ""
    for title, of_block in blocks:
        part = texts.table(of_block, fields, style, header="header" in words)
        if verb == "parse":
            text += part + "\n" if style == "json" else "*\n" + part
        elif style == "json":
            node = of_block[0]["_node"]
            facts = json.dumps(
                {"hostname": title, "description": node["description"], "gpucards": str(node["gpu_cards"])},
                separators=(",", ":"),
            )
            text += ("," if text else "") + f'{{"system":{facts},"records":{part}}}'
        else:
            text += (f"HOST: {title}\n" if style in ("fixed", "awk") and "host" not in fields else "") + part
    return f"[{text}]" if verb == "load" and style == "json" else text
