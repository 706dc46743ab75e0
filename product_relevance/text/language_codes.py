"""Map every spelling of a language to one code: `de_DE`, `de-DE`, `DE`, `deu` and `German` become `de`."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import overload

# The 13 codes of the competition's files (CIKM AnalytiCup 2025). Vietnamese is `vn` there, `vi` in ISO 639-1.
LANGUAGES = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "pt": "Portuguese",
    "ja": "Japanese",
    "ko": "Korean",
    "de": "German",
    "it": "Italian",
    "pl": "Polish",
    "ar": "Arabic",
    "th": "Thai",
    "vn": "Vietnamese",
    "id": "Indonesian",
}
UNDETERMINED = "und"  # nothing to go by: digits, model codes, one letter
UNKNOWN = "unk"  # not English, but which one is not known: the 1st team's code

_TO_ISO = {"vn": "vi"}
_FROM_ISO = {iso: code for code, iso in _TO_ISO.items()}

# ISO 639-1, each code with its three letters (ISO 639-2/T).
_ISO_639 = """
    aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis
    bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu
    dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry
    ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina
    id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua kk:kaz
    kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao
    lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde
    ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol
    ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk
    sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir
    tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol
    wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
"""
# Other codes of the same languages: ISO 639-2/B, the main member of a macrolanguage, and two letters of old.
_OTHERS = """
    alb:sq als:sq arb:ar arm:hy ayr:ay azj:az baq:eu bur:my chi:zh cmn:zh cze:cs dut:nl ekk:et fre:fr gaz:om geo:ka
    ger:de gre:el ice:is in:id iw:he ji:yi jw:jv khk:mn lvs:lv mac:mk mao:mi may:ms mo:ro npi:ne ory:or pbt:ps
    per:fa pes:fa plt:mg quy:qu rum:ro slo:sk swh:sw tib:bo uzn:uz wel:cy ydd:yi zsm:ms
"""
_PAIRS = [entry.split(":") for entry in _ISO_639.split()]
_SHORT = {three: two for two, three in _PAIRS} | dict(entry.split(":") for entry in _OTHERS.split())
_SHORT |= {name.lower(): code for code, name in LANGUAGES.items()}
_KNOWN = {two for two, _ in _PAIRS} | set(LANGUAGES)
_TAG_BREAK = re.compile("[-_.@]")  # of BCP 47 (`zh-Hans-CN`), POSIX (`de_DE.UTF-8`) and FLORES (`zho_Hans`)
_THREE_LETTERS = re.compile("[a-z]{3}")


def to_iso(code: str) -> str:
    """Turn a code of the competition into ISO 639-1: `vn` becomes `vi`."""
    return _TO_ISO.get(code, code)


def from_iso(code: str) -> str:
    """Turn an ISO 639-1 code into the competition's: `vi` becomes `vn`."""
    return _FROM_ISO.get(code, code)


@lru_cache(4096)
def normal_code(given: str) -> str:
    """Return the one code under which a language is known here.

    Args:
        given: A code of ISO 639, also with region, script or encoding (`pt-BR`, `zh-Hans`, `de_DE.UTF-8`), in any
            case; or the English name of one of the 13 languages.

    Returns:
        Two letters where ISO 639-1 has them (`vn` for Vietnamese), else the three letters of ISO 639; what is no such
        code is given back without blanks at its ends.
    """
    first = _TAG_BREAK.split(given.strip().lower(), maxsplit=1)[0]
    code = _SHORT.get(first, first)
    return from_iso(code) if code in _KNOWN or _THREE_LETTERS.fullmatch(code) else given.strip()


def is_code(code: str) -> bool:
    """Return whether a code of `normal_code` can be ISO 639. Two letters are looked up; any three letters pass."""
    return code in _KNOWN or _THREE_LETTERS.fullmatch(code) is not None


def code_pattern() -> str:
    """Return a regular expression, with anchors, for what may stand for a language where clients are programs."""
    seconds: dict[str, str] = {}
    for two in sorted(code for code in _KNOWN | set(_SHORT) if len(code) == 2):
        seconds[two[0]] = seconds.get(two[0], "") + two[1]
    known = "|".join(f"[{first}{first.upper()}][{rest}{rest.upper()}]" for first, rest in seconds.items())
    return f"^({known}|[a-zA-Z]{{3}})([-_][a-zA-Z0-9_-]*)?$"


@overload
def normal_codes(given: Iterable[str]) -> list[str]: ...
@overload
def normal_codes(given: Iterable[str | None]) -> list[str | None]: ...
def normal_codes(given: Iterable[str | None]) -> Sequence[str | None]:
    """Return `normal_code` of each; what is no text, such as None, stays."""
    return [normal_code(code) if isinstance(code, str) else code for code in given]
