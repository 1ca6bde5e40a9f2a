"""A reader who likes real words: the response with the larger share of words found in a list of simple English wins.

Meant for story models too small to spell. The share is of all words, so repeating a few of them is rewarded as well:
watch the KL and the samples of such a run.
"""

import re
from collections.abc import Iterable, Sequence

from services.oracle.judges.rules import Rule
from shared.contracts.records import Message

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_ENDINGS = ("'s", "s", "es", "d", "ed", "ing", "er", "est", "ly", "y", "n't")

_LISTED = """
a about above across afraid after again against ago air all almost alone along already also always am an and angry
animal another answer any anymore anyone anything apple are arm around as ask asleep at ate away baby back bad bag
ball balloon bank bath be beach bear beautiful became because become bed bee been before began begin behind being
believe bell below bench beside best better between big bike bird birthday bit bite black blanket block blow blue
boat body book boring both bottle bottom bounce bow bowl box boy branch brave bread break breakfast breath bright
bring broke broken brother brought brown brush bubble bucket bug build built bump bunny bus bush busy but butterfly
button buy by cake call came can can't candle candy cap car care careful carefully carrot carry castle cat catch
caught chair change chase cheer child children choose circle city clap class clean clear clever climb clock close
cloth clothes cloud clown coat cold collect color come comfort cook cookie cool corner could count cow crab crash
crawl cream cry cup curious cut dad daddy dance dancing danger dark day dear decide deep deer did different dig
dinner dirt dirty discover dish do doctor does dog doll done don't door down dragon draw dream dress drink drive
drop drum dry duck each ear early earth easy eat egg eight either elephant else empty end enjoy enough even evening
ever every everyone everything everywhere excited exciting explore eye face fair fairy fall family far farm farmer
fast father favorite fear feel feet fell felt fence few field fight fill find fine finger finish fire first fish
fit five fix flag flew floor flower fly follow food foot for forest forever forget forgive forgot fork found four
fox free fresh friend friendly frog from front fruit full fun funny game garden gate gave gentle get giant gift
girl give glad glass glow go goal goat gold gone good goodbye got grab grandma grandpa grass gray great green grew
ground group grow guess had hair half hand hang happen happily happiness happy hard has hat have he hear heard
heart heavy held hello help helpful her here hero herself hey hi hid hide high hill him himself his hit hold hole
home honest hope hop horse hot hour house how hug huge hungry hurry hurt i ice idea if imagine important in inside
instead interest into is it its itself jacket jar job join joy juice jump just keep kept key kick kid kind king
kiss kitchen kite kitten knee knew knife knock know lady lake lamp land large last late later laugh lay lazy lead
leaf learn leave leaves left leg lemon less lesson let letter library lick lie life lift light like lion listen
little live log lonely long look lose lost lot loud love lovely low luck lucky lunch mad made magic magical make
man many map mark market mat matter may maybe me mean meat medicine meet men mess met mice middle might milk mind
mine mirror miss mix mom mommy moment money monkey monster moon more morning most mother mountain mouse mouth move
much mud mum mummy music must my myself name nap near neck need neighbor nest net never new next nice night no
nobody noise none nose not note nothing notice now number nurse oak obey ocean of off offer often oh okay old on
once one only open or orange other our out outside over owl own owner pack page paint pair paper parent park part
party pass past path patient paw pay peace pen pencil people perfect pet phone pick picnic picture pie piece pig
pile pillow pink pirate place plan plane plant plate play please pocket point pond pony pool poor pot potato pour
practice present press pretend pretty princess prize problem promise proud puddle pull puppy purple push put puzzle
queen question quick quiet quite rabbit race rain rainbow ran reach read ready real realize really red relax
remember rest return rich ride right ring river road robot rock roll roof room rope rose round row rub rule run
running sad safe said sail same sand sandwich sang sat save saw say scare school scream sea search seat second
secret see seed seek seem seen sell send set seven shade shadow shake shape share sharp she sheep shell shelf shine
shiny ship shirt shoe shop short should shout show shy sick side sign silly silver sing sister sit six skip skirt
sky sleep slide slow small smart smell smile smooth snack snail snake snow so soap soft some somebody someone
something sometimes song soon sorry sound soup space spark speak special spend spider splash spoon spot spread
spring squirrel stand star stare start stay steal step stick still stomach stone stood stop store storm story
strange stranger street string strong stuck stuff such sudden suddenly sugar suit summer sun sunny sunshine sure
surprise swam sweet swim swimming swing table tail take talk tall taste tasty taught tea teach teacher team tear
teddy teeth tell ten tent than thank that the their them then there these they thick thin thing think third this
those though thought three threw through throw tidy tie tiger tight time tiny tire tired to today together told
tomorrow too took tool tooth top touch toward towel tower town toy track train trap travel treasure treat tree trick
trip trouble truck true trust truth try tried trunk tub tummy tune turn turtle twice two ugly umbrella uncle under
understand unhappy until up upset us use vase vegetable very visit voice wag wait wake walk wall want warm was wash
watch water wave way we wear weather week well went were wet whale what wheel when where which while whisper white
who whole why wide wife wild will win wind window wing winter wise wish with without wizard woke wolf woman women
won won't wonder wonderful wood word wore work world worm worry would wrap write wrong yard year yell yellow yes
yet you young your yourself yummy zebra zoo upon having course wow weird hugged nodded amazing amazed
"""
SIMPLE_ENGLISH = frozenset(_LISTED.split())


def known_word_share(words: Iterable[str] | None = None) -> Rule:
    """The rule over a list of words, by default `SIMPLE_ENGLISH`; the usual endings of listed words count as found.

    The larger share wins for certain, equal shares tie. `ValueError` for an empty list.
    """
    known = SIMPLE_ENGLISH if words is None else frozenset(word.lower() for word in words)
    if not known:
        raise ValueError("words is empty: no response could ever win")

    def rule(prompt: Sequence[Message], first: str, second: str) -> float:
        del prompt
        ours, theirs = share_found(first, known), share_found(second, known)
        return 0.5 if ours == theirs else float(ours > theirs)

    return rule


def share_found(text: str, known: frozenset[str]) -> float:
    """Share of the text's words that are in the list; 0 for a text without words."""
    words = _WORD.findall(text.lower())
    return sum(_is_found(word, known) for word in words) / len(words) if words else 0.0


def _is_found(word: str, known: frozenset[str]) -> bool:
    return word in known or any(word.endswith(ending) and word.removesuffix(ending) in known for ending in _ENDINGS)
