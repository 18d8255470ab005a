"""Image references as they occur in exports: paths of other machines, URLs, uploads, data URIs."""

import base64
import binascii
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from urllib.parse import unquote, unquote_to_bytes

MAX_LENGTH = 2**15
"""A longer reference that is not an embedded image is not the path of any file."""
SHOWN = 40
"""Characters of an embedded image that messages show."""
_NEEDS_PARSING = re.compile(r"[\\:%?#]|upload/")
_LOCAL_FILES = re.compile(r"/data/local-files/?\?(?:[^#]*&)?d=([^&#]*)")
"""Label Studio's local storage."""
_UPLOAD = re.compile(r"(?:^|/)upload/(?:(\d+)/)?(?:([0-9a-f]{8})-)?([^/]+)$")
"""Label Studio's uploads: project, a random prefix, and the file's name made safe by Django."""
_SIGNED = re.compile(
    r"(X-Amz-|X-Goog-|sk[a-z]*=|s[vrept]=|sig=|spr=|token=|Expires=|Signature=|Policy=|"
    r"AWSAccessKeyId=|Key-Pair-Id=|GoogleAccessId=)",
    re.IGNORECASE,
)
"""Parameters of signed URLs; they change with each export."""
_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/]|$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://")
_BASE64_IMAGE = re.compile(r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/_\s-]{40,}+={0,2}\s*")
"""An encoded image file without the header of a data URI."""


@dataclass(frozen=True)
class Reading:
    """One way to read a reference as a path."""

    parts: tuple[str, ...]
    """Folders and name."""
    absolute: bool = False
    """Whether the path starts at a machine's root, a host or a labelling tool."""
    upload: tuple[str, str] | None = None
    """Project and random prefix of an upload."""
    extra: str = ""
    """Query and fragment that were cut off."""
    num_up: int = 0
    """Number of leading ``..``."""
    literal: bool = False
    """Not decoded although the text has escapes; it must match the full path of a file."""

    def agrees(self, other: "Reading") -> bool:
        """Whether both can be the same file.

        A path may be written relative, or absolute with the folders of a machine in front. Two
        relative paths, or two absolute ones, with different folders are different files, and so are
        two uploads of one project.
        """
        if self.upload and other.upload:
            return self.upload[0] != other.upload[0] or self.upload == other.upload
        short, long = sorted((self, other), key=lambda one: len(one.claim))
        same = long.claim[len(long.claim) - len(short.claim) :] == short.claim
        return (
            same
            and short.extra == long.extra
            and (long.absolute or len(short.claim) == len(long.claim))
        )

    @property
    def claim(self) -> tuple[str, ...]:
        """The parts that identify the file."""
        parts = self.parts[-1:] if self.upload else self.parts
        return tuple(unicodedata.normalize("NFC", part) for part in parts)


@dataclass
class Claims:
    """References that lead to the same target by a part of their text.

    They may refer to different files of the same name. This is known only after all references were
    read, so the sources are read again if ``settle`` finds a new conflict.
    """

    contested: set[str] = field(default_factory=set)
    """Targets whose references exclude each other."""
    _claims: dict[str, set[Reading]] = field(default_factory=lambda: defaultdict(set))

    def add(self, target: str, reading: Reading) -> None:
        """Record that a reference leads to a target."""
        if target not in self.contested:
            self._claims[target].add(reading)

    def settle(self) -> bool:
        """Update ``contested``; return whether it has changed."""
        found = {
            target
            for target, claims in self._claims.items()
            if any(not one.agrees(other) for one, other in combinations(claims, 2))
        }
        self._claims.clear()
        self.contested |= found
        return bool(found)


def readings(reference: str) -> list[Reading]:
    """Ways to read a reference as a path, best first: unchanged, then decoded.

    The last ones are without the prefix that a labelling tool added to the name.
    """
    if len(reference) > MAX_LENGTH:
        return []
    parsed = _NEEDS_PARSING.search(reference) is not None
    plain = _reading(reference.split("/"), reference.startswith("/"), literal=parsed)
    if not parsed:
        return [plain] if plain else []
    local = _LOCAL_FILES.search(reference)
    body, extra = (local[1], "") if local else _without_query(reference)
    absolute = local is not None or bool(re.match(r"[\\/]", body))
    decoded = []
    for text in dict.fromkeys((body, unquote(body))):
        path, num_scheme = _SCHEME.subn("", text, count=1)
        path, num_drive = _DRIVE.subn("", path, count=1)
        rooted = absolute or num_scheme + num_drive > 0
        if reading := _reading(re.split(r"[\\/]", path), rooted, extra):
            decoded.append(reading)
    named = [_upload(one, whole=False) for one in decoded]
    whole = [_upload(one, whole=True) or one for one in decoded]
    return list(dict.fromkeys(one for one in (plain, *whole, *named) if one is not None))


def canonical(reference: str) -> tuple[str, Reading]:
    """The name of an image whose file is absent, without the additions of a tool or machine.

    Returns:
        The name, and the reading that it is taken from.
    """
    found = readings(reference)
    if not found:
        return reference, Reading((reference,))
    last = found[-1]
    if last.upload is None and last.extra:  # a query may be all that distinguishes two images
        return reference, Reading((reference,))
    return "/".join(last.claim), last


def embedded(reference: str) -> bytes | None:
    """The bytes of a data URI or of a file in base64; None if the reference is a path.

    Raises:
        ValueError: a data URI is damaged.
    """
    if reference[:5].lower() == "data:":
        head, _, body = reference.partition(",")
        return _base64(unquote(body)) if ";base64" in head.lower() else unquote_to_bytes(body)
    if _BASE64_IMAGE.fullmatch(reference):
        try:
            return _base64(reference)
        except ValueError:
            return None
    return None


def shown_reference(reference: str) -> str:
    """A reference for messages: an embedded image is cut off."""
    if reference[:5].lower() == "data:" and len(reference) > SHOWN:
        return f"{reference[:SHOWN]}... ({len(reference)} characters)"
    return reference


def _base64(text: str) -> bytes:
    text = "".join(text.split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the data URI is not valid base64 ({error})") from None


def _without_query(reference: str) -> tuple[str, str]:
    path, mark, extra = re.fullmatch(r"([^?#]*)([?#]?)(.*)", reference, re.DOTALL).groups()  # type: ignore[union-attr]
    signed = mark == "?" and all(_SIGNED.match(one) for one in extra.split("&"))
    return path, "" if signed else extra


def _reading(
    texts: list[str], absolute: bool, extra: str = "", literal: bool = False
) -> Reading | None:
    """A path with ``.`` and ``..`` resolved; None if nothing is left."""
    parts: list[str] = []
    num_up = 0
    for text in texts:
        if text == ".." and parts:
            parts.pop()
        elif text == "..":
            num_up += 1
        elif text not in ("", "."):
            parts.append(text)
    return Reading(tuple(parts), absolute, None, extra, num_up, literal) if parts else None


def _upload(reading: Reading, whole: bool) -> Reading | None:
    """The path of an upload, in full or only its file name; None if it is not one."""
    match = _UPLOAD.search("/".join(reading.parts))
    if match is None:
        return None
    parts = reading.parts if whole else (match[3],)
    return Reading(parts, True, (match[1] or "", match[2] or ""), reading.extra)
