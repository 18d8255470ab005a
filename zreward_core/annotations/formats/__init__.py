"""File formats: one module and one name in params.yaml each."""

from zreward_core.annotations.formats.delimited import read_csv, read_tsv
from zreward_core.annotations.formats.excel import read_excel
from zreward_core.annotations.formats.genai_bench import read_genai_bench
from zreward_core.annotations.formats.hpdv2_test import read_hpdv2_test
from zreward_core.annotations.formats.imagenhub import read_imagenhub
from zreward_core.annotations.formats.json_records import read_json, read_jsonl
from zreward_core.annotations.formats.label_studio import SETTINGS, read_label_studio
from zreward_core.annotations.formats.parquet import read_parquet
from zreward_core.annotations.formats.records import Format

FORMATS: dict[str, Format] = {
    "label_studio": Format(read_label_studio, ".json", SETTINGS, other_suffixes=(".jsonl",)),
    "csv": Format(read_csv, ".csv", reads=("encoding", "delimiter", "header_row")),
    "tsv": Format(read_tsv, ".tsv", reads=("encoding", "delimiter", "header_row")),
    "excel": Format(read_excel, ".xlsx", reads=("sheet", "header_row")),
    "json": Format(read_json, ".json", reads=("encoding", "records")),
    "jsonl": Format(read_jsonl, ".jsonl", reads=("encoding",)),
    "parquet": Format(read_parquet, ".parquet"),
    "genai_bench": Format(read_genai_bench, ".json", reads=("encoding",)),
    "imagenhub": Format(read_imagenhub, ".tsv", reads=("encoding",)),
    "hpdv2_test": Format(read_hpdv2_test, ".json", reads=("encoding",)),
}
"""Name in params.yaml to format."""
