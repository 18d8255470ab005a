"""Time and memory of ingest and validate on many ratings, beside DuckDB.

    python benchmarks/ingest.py --rows 10000000 --root /some/scratch

writes a study of that many ratings as CSV and as Parquet (five raters, four dimensions, four
images a prompt, one faulty row in a thousand, rows in no order), runs ``zreward ingest`` and
``zreward validate`` on each in a separate process, and DuckDB for the same reading, checking,
mapping and writing: identifiers by sha256, quarantine with reasons, resubmissions averaged, means,
histograms, trimmed test items, splits by prompt, pairs. The time of validate includes the
annotator audit, the bootstrap and the Data Docs, which the DuckDB queries omit.

Prints seconds, the ratio to DuckDB, and the peak memory of each process. Needs the ``dev`` extra.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
DIMENSIONS = ("alignment", "realism", "aesthetics", "plausibility")
RATERS_OF_ITEM, NUM_RATERS, IMAGES = 5, 200, 4
CHUNK_ROWS = 1_000_000
ZREWARD = str(Path(sys.executable).with_name("zreward"))

PARAMS = """
seed: 17
splits: {{train: 0.3, validation: 0.1}}
ingest:
  sources:
    - name: study
      format: {format}
      path: data/drops/study.{format}
      columns: {{prompt: prompt, image: image, generator: model, annotator_id: rater, score: stars,
                submitted_at: time}}
      dimension: {{column: aspect}}
      scale: {{min: 1, max: 5, higher_is_better: true}}
      images: data/candidates/images
validate: {{min_agreement: -1.0}}
"""


def main() -> None:
    """Write the study, run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--root", type=Path, default=Path(".zreward/bench_ingest"))
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"])
    options = parser.parse_args()
    root = options.root.resolve()
    make_study(root, options.rows)
    rows = []
    for kind in options.formats:
        rows += measure(root, kind)
    print(f"\n{options.rows:,} rows, {os.cpu_count()} cores")
    print(f"{'':<18}{'seconds (CPU)':>22}{'DuckDB':>22}{'ratio':>8}{'GiB':>8}{'DuckDB':>8}")
    for name, ours, theirs in rows:
        print(
            f"{name:<18}{_shown(ours):>22}{_shown(theirs):>22}{ours.wall / theirs.wall:>8.2f}"
            f"{ours.memory:>8.2f}{theirs.memory:>8.2f}"
        )


@dataclass(frozen=True)
class Cost:
    """Cost of a process: wall seconds, CPU seconds, peak GiB."""

    wall: float
    cpu: float
    memory: float


def _shown(cost: Cost) -> str:
    return f"{cost.wall:.1f} ({cost.cpu:.1f})"


def make_study(root: Path, num_rows: int) -> None:
    """Write the images' shard and the study in both formats, unless they exist."""
    note = root / "study.json"
    made = {"rows": num_rows}
    if note.is_file() and json.loads(note.read_text()) == made:
        return
    shutil.rmtree(root, ignore_errors=True)
    (root / "data/drops").mkdir(parents=True)
    (root / "data/candidates/images").mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/rubric.yaml", root / "data/rubric.yaml")
    num_units = num_rows // len(DIMENSIONS)  # one rater and one image each
    num_images = max(1, num_units // RATERS_OF_ITEM)
    names = [hashlib.sha256(str(one).encode()).hexdigest() for one in range(num_images)]
    shard = pa.table(
        {
            "image_id": names,
            "bytes": pa.array([b""] * num_images, pa.binary()),
            "width": np.ones(num_images, dtype=np.int64),
            "height": np.ones(num_images, dtype=np.int64),
        }
    )
    pq.write_table(shard, root / "data/candidates/images/00000.parquet")
    rng = np.random.default_rng(3)
    units = rng.permutation(num_units)
    quality = rng.normal(size=(num_images, len(DIMENSIONS)))
    files = pa.array([f"images/{name}.png" for name in names])
    num_prompts = num_images // IMAGES + 1
    prompts = pa.array(
        [
            f"an image of {one} things, in the style of {one % 97}, number {one * 7}"
            for one in range(num_prompts)
        ]
    )
    csv_writer = parquet_writer = None
    for start in range(0, num_units, CHUNK_ROWS // len(DIMENSIONS)):
        part = units[start : start + CHUNK_ROWS // len(DIMENSIONS)]
        table = chunk(part, start, quality, files, prompts, rng)
        if csv_writer is None:
            csv_writer = pyarrow.csv.CSVWriter(root / "data/drops/study.csv", table.schema)
            parquet_writer = pq.ParquetWriter(root / "data/drops/study.parquet", table.schema)
        csv_writer.write_table(table)
        parquet_writer.write_table(table)
    csv_writer.close()
    parquet_writer.close()
    note.write_text(json.dumps(made))


def chunk(
    units: np.ndarray,
    start: int,
    quality: np.ndarray,
    files: pa.Array,
    prompts: pa.Array,
    rng: np.random.Generator,
) -> pa.Table:
    """Ratings of some units; every thousandth row is faulty."""
    num_dimensions = len(DIMENSIONS)
    images = np.repeat(units // RATERS_OF_ITEM, num_dimensions)
    raters = np.repeat(
        (units % RATERS_OF_ITEM + units // RATERS_OF_ITEM * 7) % NUM_RATERS, num_dimensions
    )
    aspects = np.tile(np.arange(num_dimensions), len(units))
    noise = rng.normal(scale=0.6, size=len(images))
    scores = np.clip(np.round((3 + quality[images, aspects] + noise) * 2) / 2, 1, 5)
    stars = pc.cast(pa.array(scores), pa.string()).to_numpy(zero_copy_only=False)
    stars[::1000] = np.resize(["9", "", "good"], len(stars[::1000]))
    seconds = start * num_dimensions + np.arange(len(images))
    return pa.table(
        {
            "prompt": prompts.take(pa.array(images // IMAGES)),
            "image": files.take(pa.array(images)),
            "model": pa.array(["one", "two", "three", "four"]).take(pa.array(images % IMAGES)),
            "rater": pc.binary_join_element_wise("r", pa.array(raters).cast(pa.string()), ""),
            "aspect": pa.array(DIMENSIONS).take(pa.array(aspects)),
            "stars": pa.array(stars, pa.string()),
            "time": pc.cast(pa.array(1_760_000_000 + seconds), pa.string()),
        }
    )


def measure(root: Path, kind: str) -> list[tuple[str, Cost, Cost]]:
    """Cost of both stages and of DuckDB."""
    (root / "params.yaml").write_text(PARAMS.format(format=kind))
    shutil.rmtree(root / "duck", ignore_errors=True)
    (root / "duck").mkdir()
    reader = "read_csv('{}', header=true, all_varchar=true, store_rejects=true)"
    source = (reader if kind == "csv" else "read_parquet('{}')").format(f"data/drops/study.{kind}")
    result = []
    for stage, statements in (("ingest", duck_ingest(source)), ("validate", duck_validate())):
        theirs = timed([sys.executable, "-c", DUCK.format(statements=statements)], root)
        ours = timed([ZREWARD, stage], root)
        result.append((f"{kind} {stage}", ours, theirs))
    compare(root)
    return result


def timed(command: list[str], folder: Path) -> Cost:
    """Cost of a command."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"failed: {' '.join(command)[:200]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def compare(root: Path) -> None:
    """Check that items, scores and pairs are the same."""
    ours = pq.read_table(
        root / "data/validate/items.parquet", columns=["item_id", "dimension", "score"]
    )
    theirs = pq.read_table(root / "duck/items.parquet", columns=["item_id", "dimension", "score"])
    keys = [("item_id", "ascending"), ("dimension", "ascending")]
    ours, theirs = ours.sort_by(keys), theirs.sort_by(keys)
    assert ours["item_id"].equals(theirs["item_id"]), "the items differ"
    largest = np.abs(ours["score"].to_numpy() - theirs["score"].to_numpy()).max()
    assert largest < 1e-9, f"scores differ by up to {largest}"
    pairs = [
        pq.read_metadata(root / f / "pairs.parquet").num_rows for f in ("data/validate", "duck")
    ]
    assert pairs[0] == pairs[1], f"the numbers of pairs differ: {pairs}"
    print(f"{ours.num_rows:,} items and {pairs[0]:,} pairs, the same in both", flush=True)


DUCK = textwrap.dedent("""
    import duckdb
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    for statement in {statements!r}:
        connection.execute(statement)
""")

_NORMAL = "regexp_replace(trim(lower(prompt)), '\\s+', ' ', 'g')"


def duck_ingest(source: str) -> list[str]:
    """The same mapping and checks in SQL."""
    score = "try_cast(stars AS DOUBLE)"
    names = ", ".join(f"'{name}'" for name in DIMENSIONS)
    return [
        f"""CREATE TEMP TABLE read AS
            SELECT *, {score} AS score, CASE
              WHEN aspect NOT IN ({names}) OR aspect IS NULL THEN 'unknown_dimension'
              WHEN stars IS NULL OR trim(stars) = '' THEN 'missing_value'
              WHEN {score} IS NULL THEN 'malformed_record'
              WHEN {score} NOT BETWEEN 1 AND 5 THEN 'out_of_range' END AS reason
            FROM (SELECT *, row_number() OVER () + 1 AS number FROM {source})""",
        f"""COPY (
              SELECT left(sha256('item' || chr(31) || {_NORMAL} || chr(31) || known.image_id), 16)
                       AS item_id,
                     left(sha256('prompt' || chr(31) || {_NORMAL}), 16) AS prompt_id,
                     prompt, known.image_id AS image_id, model AS generator, aspect AS dimension,
                     rater AS annotator_id, score, score AS native_score, time AS submitted_at,
                     NULL::DOUBLE AS seconds, 'study' AS source, 'study#row ' || number AS row_ref
              FROM read LEFT JOIN 'data/candidates/images/00000.parquet' known
                ON regexp_extract(image, '[0-9a-f]{{64}}') = known.image_id
              WHERE reason IS NULL) TO 'duck/ratings.parquet' (FORMAT parquet)""",
        """COPY (SELECT 'study' AS source, 'study#row ' || number AS row_ref, reason,
                 concat_ws('|', prompt, image, model, rater, aspect, stars, time) AS raw
               FROM read WHERE reason IS NOT NULL) TO 'duck/quarantine.parquet' (FORMAT parquet)""",
        "CREATE TEMP TABLE counts AS SELECT reason, count(*) FROM read GROUP BY reason",
        """CREATE TEMP TABLE again AS SELECT count(*) - count(DISTINCT (item_id, dimension,
           annotator_id)) FROM 'duck/ratings.parquet'""",
    ]


def duck_validate() -> list[str]:
    """The same checks, aggregation, splits and pairs in SQL."""
    normal = _NORMAL
    place = (
        f"(('0x' || left(sha256('split' || chr(31) || {normal}), 13))::BIGINT / 4503599627370496.0)"
    )
    names = ", ".join(f"'{name}'" for name in DIMENSIONS)
    levels = ", ".join(
        f"count(*) FILTER (score = {1 + step / 2}) / count(*)::DOUBLE" for step in range(9)
    )
    return [
        f"""CREATE TEMP TABLE checked AS SELECT
              count(*) FILTER (item_id IS NULL OR dimension IS NULL OR score IS NULL
                OR source IS NULL OR row_ref IS NULL) AS missing,
              count(*) FILTER (dimension NOT IN ({names})) AS unknown,
              count(*) FILTER (score NOT BETWEEN 1 AND 5) AS outside,
              count(*) FILTER (NOT regexp_matches(image_id, '^[0-9a-f]{{64}}$')) AS images
            FROM 'duck/ratings.parquet'""",
        """CREATE TEMP TABLE clashes AS SELECT item_id FROM 'duck/ratings.parquet'
           GROUP BY item_id HAVING count(DISTINCT prompt_id) > 1""",
        """CREATE TEMP TABLE merged AS SELECT item_id, dimension, annotator_id, avg(score) AS score
           FROM 'duck/ratings.parquet' GROUP BY ALL""",
        f"""CREATE TEMP TABLE facts AS SELECT item_id, first(prompt_id) AS prompt_id,
              first(prompt) AS prompt, first(image_id) AS image_id,
              {place.replace("prompt", "first(prompt)")} AS place
            FROM 'duck/ratings.parquet' GROUP BY item_id""",
        """CREATE TEMP TABLE placed AS SELECT m.*, CASE WHEN place < 0.3 THEN 'train'
             WHEN place < 0.4 THEN 'validation' ELSE 'test' END AS split,
             row_number() OVER w AS low, count(*) OVER (PARTITION BY item_id, dimension) AS number
           FROM merged m JOIN facts USING (item_id)
           WINDOW w AS (PARTITION BY item_id, dimension ORDER BY score)""",
        f"""CREATE TEMP TABLE items AS SELECT item_id, dimension, avg(score) AS score,
              [{levels}] AS histogram, any_value(number) AS num_ratings, any_value(split) AS split
            FROM placed WHERE split != 'test' OR number < 3 OR low NOT IN (1, number)
            GROUP BY item_id, dimension
            HAVING any_value(split) != 'test' OR any_value(number) >= 3""",
        """COPY (SELECT i.item_id, prompt_id, prompt, image_id, dimension, score, histogram,
             num_ratings, split FROM items i JOIN facts USING (item_id) ORDER BY item_id, dimension)
           TO 'duck/items.parquet' (FORMAT parquet)""",
        """COPY (SELECT f.prompt_id, a.dimension, a.item_id AS winner, b.item_id AS loser,
             a.score AS score_w, b.score AS score_l, a.split
           FROM items a JOIN facts f ON f.item_id = a.item_id
             JOIN facts g ON g.prompt_id = f.prompt_id
             JOIN items b ON b.item_id = g.item_id AND b.dimension = a.dimension
           WHERE a.score > b.score + 1e-9 ORDER BY 1, 2, 3, 4)
           TO 'duck/pairs.parquet' (FORMAT parquet)""",
        """COPY (SELECT item_id, dimension, annotator_id, score FROM placed
           SEMI JOIN items USING (item_id, dimension) WHERE split = 'test')
           TO 'duck/test_ratings.parquet' (FORMAT parquet)""",
    ]


if __name__ == "__main__":
    main()
