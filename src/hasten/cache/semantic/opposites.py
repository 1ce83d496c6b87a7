"""Words that ask for opposite or sibling things where they stand at the same place."""

from __future__ import annotations

from hasten.cache.semantic.words import listed

_PAIRS = """
enable:disable activate:deactivate enabled:disabled enabling:disabling enables:disables subscribe:unsubscribe
install:uninstall installing:uninstalling lock:unlock locking:unlocking mute:unmute muting:unmuting
follow:unfollow block:unblock blocking:unblocking hide:unhide hide:show archive:unarchive freeze:unfreeze
pin:unpin zip:unzip encrypt:decrypt encode:decode compress:decompress upgrade:downgrade upgrading:downgrading
increase:decrease increase:reduce raise:lower raising:lowering maximize:minimize maximise:minimise
import:export importing:exporting upload:download uploading:downloading arrive:depart arrival:departure
arrivals:departures arriving:departing minimum:maximum min:max most:least most:fewest more:less more:fewer
highest:lowest higher:lower biggest:smallest largest:smallest bigger:smaller longest:shortest longer:shorter
tallest:shortest oldest:youngest oldest:newest older:younger older:newer earliest:latest earlier:later
fastest:slowest faster:slower strongest:weakest hottest:coldest cheapest:dearest cheaper:dearer best:worst
better:worse richest:poorest heaviest:lightest heavier:lighter deepest:shallowest nearest:farthest
closest:farthest closest:furthest nearest:furthest hardest:easiest harder:easier 1st:last increase:lower
ascending:descending inside:outside indoor:outdoor indoors:outdoors domestic:international adult:child
adults:children adults:kids adult:kid employer:employee employers:employees landlord:tenant landlords:tenants
buyer:seller buyers:sellers sender:recipient sender:receiver male:female males:females men:women men's:women's
mens:womens man:woman boy:girl boys:girls husband:wife boyfriend:girlfriend father:mother dad:mom son:daughter
brother:sister uncle:aunt king:queen paid:unpaid weekday:weekend weekdays:weekends hot:cold heating:cooling
left:right north:south northern:southern east:west eastern:western deposit:withdraw deposits:withdrawals
deposit:withdrawal grant:revoke granting:revoking join:leave joining:leaving open:close opening:closing
opens:closes opened:closed open:closed within:after reopen:close start:stop starting:stopping start:end
starts:ends begin:end begins:ends starting:ending hire:fire hiring:firing lend:borrow lending:borrowing
lent:borrowed lender:borrower buy:sell buying:selling bought:sold sells:buys accept:reject accept:decline
accept:refuse accepting:declining approve:reject approve:deny approved:rejected approved:denied allow:forbid
allowed:banned allowed:forbidden allowed:prohibited legal:illegal safe:unsafe safe:dangerous
suitable:unsuitable compulsory:optional mandatory:optional
required:optional obligatory:optional compulsory:voluntary lawful:unlawful stable:unstable sold:unsold
read:unread opened:unopened finished:unfinished certain:uncertain changed:unchanged used:unused
comfortable:uncomfortable reliable:unreliable official:unofficial ethical:unethical acceptable:unacceptable
authorized:unauthorized expected:unexpected natural:unnatural complete:incomplete correct:incorrect
valid:invalid visible:invisible secure:insecure direct:indirect dependent:independent sufficient:insufficient
visible:hidden eligible:ineligible regular:irregular relevant:irrelevant responsible:irresponsible
mature:immature mortal:immortal moral:immoral perfect:imperfect patient:impatient polite:impolite
honest:dishonest qualified:unqualified qualify:disqualify qualified:disqualified approve:disapprove
prove:disprove obey:disobey assemble:disassemble continue:discontinue continued:discontinued
undergraduate:postgraduate undergraduate:master bachelor:master economy:business delivery:dine-in
delivery:takeaway delivery:collection delivery:pickup eat-in:takeaway define:spell definition:spell
personal:commercial faulty:working
refundable:non-refundable refundable:nonrefundable transferable:non-transferable members:non-members
member:non-member smoking:non-smoking resident:non-resident residents:non-residents before:after push:pull
commit:revert add:remove adding:removing add:delete create:delete creating:deleting add:subtract
multiply:divide insert:delete insert:remove gain:lose gaining:losing win:lose winner:loser wins:losses
profit:loss credit:debit asset:liability assets:liabilities advantages:disadvantages advantage:disadvantage
benefits:drawbacks benefits:risks benefits:downsides pros:cons strengths:weaknesses encourage:discourage
cause:prevent causes:prevents attract:repel expand:contract expand:collapse inflate:deflate fill:empty
fill:drain tighten:loosen thicken:thin soften:harden melt:freeze heat:cool warm:cool warmer:cooler wet:dry
hard:soft clean:dirty sharp:blunt sharpen:blunt fresh:frozen raw:cooked sweet:savoury sweet:savory
vegetarian:meat light:dark black:white day:night daytime:nighttime morning:evening sunrise:sunset dawn:dusk
summer:winter spring:autumn spring:fall front:back front:rear top:bottom upper:lower upstairs:downstairs
up:down above:below over:under above:under over:below forward:backward forwards:backwards ahead:behind
internal:external interior:exterior public:private formal:informal formally:informally polite:rude
optimistic:pessimistic positive:negative active:passive odd:even prime:composite singular:plural past:future
present:past ancient:modern wild:domesticated full-time:part-time permanent:temporary fixed:variable
short-term:long-term single:married single:double one-way:return unlimited:limited manual:automatic
automatically:manually online:in-person online:offline online:in-store wired:wireless analog:digital
import:export imports:exports exporter:importer supply:demand inbound:outbound incoming:outgoing
outgoing:ingoing entry:exit enter:exit entering:leaving entrance:exit connect:disconnect attach:detach
mount:unmount dock:undock link:unlink pair:unpair load:unload wrap:unwrap fold:unfold tie:untie plug:unplug
cover:uncover dress:undress do:undo redo:undo log-in:log-out login:logout sign-in:sign-out check-in:check-out
check-ins:check-outs onboarding:offboarding promote:demote promotion:demotion hired:fired like:unlike
like:dislike likes:dislikes trust:distrust agree:disagree agreeing:disagreeing appear:disappear
include:exclude included:excluded including:excluding includes:excludes inclusive:exclusive
possible:impossible able:unable available:unavailable employed:unemployed employed:self-employed
furnished:unfurnished insured:uninsured verified:unverified known:unknown limited:unlimited healthy:unhealthy
common:uncommon common:rare usual:unusual likely:unlikely lucky:unlucky fair:unfair happy:sad happy:unhappy
happiest:saddest strong:weak rich:poor easy:difficult easy:hard fast:slow early:late cheap:expensive
full:empty thick:thin deep:shallow wide:narrow tall:short high:low high:mild loud:quiet bright:dim bright:dark
young:old new:old new:used debtor:creditor plaintiff:defendant teacher:student teachers:students
doctor:patient doctors:patients mentor:mentee client:server clients:servers host:guest hosts:guests
driver:passenger drivers:passengers parent:child parents:children predator:prey ancestor:descendant cat:dog
cats:dogs puppy:kitten dogs:humans customer:supplier customers:suppliers employer's:employee's
landlord's:tenant's buyer's:seller's seller's:buyer's interviewer:interviewee payer:payee visitors:residents
students:seniors children's:adult children's:men's women's:children's yesterday:tomorrow yesterday:today
today:tomorrow hourly:daily daily:weekly weekly:monthly monthly:yearly monthly:annual monthly:annually
daily:monthly weekly:yearly quarterly:annually annual:quarterly monthly:quarterly weekly:annual
bachelor's:master's undergraduate:postgraduate primary:secondary major:minor vertical:horizontal
vertically:horizontally rows:columns row:column width:height length:width height:weight prefix:suffix
uppercase:lowercase upper:lower numerator:denominator square:cube area:perimeter area:circumference
radius:diameter perimeter:volume area:volume ally:enemy war:peace birth:death born:died birthday:wedding
marriage:divorce married:divorced wedding:funeral engaged:divorced truth:lie love:hate loved:hated
success:failure succeed:fail passed:failed pass:fail rise:fall rises:falls rising:falling rose:fell up:down
grow:shrink growing:shrinking strengthen:weaken improve:worsen save:spend saving:spending earn:spend
save:waste owe:own give:receive giving:receiving given:received send:receive sending:receiving sent:received
teach:learn teaching:learning ask:answer asking:answering pay:receive attack:defend defend:sue float:sink
inhale:exhale hibernate:migrate solid:liquid liquid:gas acid:base acids:bases virus:bacteria viral:bacterial
vein:artery veins:arteries convex:concave clockwise:counterclockwise carnivore:herbivore
vertebrate:invertebrate nocturnal:diurnal
"""

# Phrases of two words; the guards see them as one token with "_".
_PHRASES = """
turn on:turn off; turned on:turned off; turns on:turns off; switch on:switch off; turning on:turning off; opt
in:opt out; log in:log out; sign in:sign out; check in:check out; clock in:clock out; at least:at most; more
than:less than; more than:fewer than; zoom in:zoom out; scale up:scale down; speed up:slow down; put on:take
off; get on:get off; go up:go down; goes up:goes down; going up:going down; move in:move out; moving in:moving
out; cool down:warm up; cool down:heat up; too much:too little; too many:too few; too high:too low; too
long:too short; too early:too late; too big:too small; too hot:too cold; too loud:too quiet; too fast:too
slow; gain weight:lose weight; full time:part time; long term:short term; first class:second class; most
expensive:least expensive; next week:last week; next month:last month; next year:last year; this year:last
year; this year:next year; this week:next week; this week:last week; this month:next month; this month:last
month; next time:last time; same day:next day
"""


def _table(pairs: list[tuple[str, str]]) -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for one, other in pairs:
        table.setdefault(one, set()).add(other)
        table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


def _phrases() -> list[tuple[str, str]]:
    entries = (entry.strip().replace(" ", "_").split(":") for entry in _PHRASES.replace("\n", " ").split(";"))
    return [(one, other) for one, other in entries]


def _words() -> list[tuple[str, str]]:
    return [(one, other) for one, other in (pair.split(":") for pair in _PAIRS.split())]


#: A word and its opposites.
OPPOSITES = _table(_words() + _phrases())
#: The first words of the phrases.
PHRASE_HEADS = frozenset(word.split("_")[0] for word in OPPOSITES if "_" in word)

#: A thing seen from the other side may be the same thing ("lend me", "borrow from me"): fires only in like sentences.
TWO_SIDED = listed(
    """
    within after before day night least most down up meat vegetarian learn teach teaching learning borrowed lent
    lend borrow bought sold buy sell children parents child parent given received give receive giving receiving
    earlier later new old lock unlock less more heavier lighter employee employer employees employers refundable
    nonrefundable non-refundable illegal legal liquid solid bacteria virus dark light boyfriend girlfriend sent
    send sending over under below above start begin end happy unhappy allowed banned forbidden prohibited
    prohibit indoors outdoors indoor outdoor pay columns rows row column used manual automatic fewer less_than
    more_than adult adults kid kids arrive depart arrival departure bigger smaller older younger taller shorter
    winner loser win lose pass fail owe own king queen high low hot cold safe dangerous unsafe open close closed
    opened landlord tenant buyer seller lender borrower debtor creditor teacher student host guest inside
    outside north south east west free paid single married double past future present 1st last front back
    possible impossible legal easy hard difficult fast slow early late clean dirty wet dry short tall wide
    narrow full empty light heavy strong weak
    """
)
