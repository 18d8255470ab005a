"""Records of the simulated Label Studio export."""

from zreward_core.world.label_studio_export import annotation, export_task, timestamp


def test_times_follow_from_durations() -> None:
    assert timestamp(0) == "2026-01-05T09:00:00.000000Z"
    assert timestamp(90.25) == "2026-01-05T09:01:30.250000Z"


def test_skipped_annotations_are_counted_apart() -> None:
    done = annotation(1, 7, 3, [{"id": "x"}], False, 12.0, 0.0, verbose_annotator=True)
    skipped = annotation(2, 7, 4, [], True, 2.0, 60.0, verbose_annotator=False)
    task = export_task(7, {"prompt": "p", "image": "i"}, [done, skipped])
    assert (task["total_annotations"], task["cancelled_annotations"]) == (1, 1)
    assert done["completed_by"]["id"] == 3
    assert skipped["completed_by"] == 4
    assert task["updated_at"] == skipped["created_at"] == "2026-01-05T09:01:02.000000Z"
