"""British spellings and their American twins: the same word, written in two ways.

Pairs that may be two words stay out: programme/program, cheque/check, storey/story, draught/draft, metre/meter,
labour/labor (two parties), dialogue/dialog, whisky/whiskey, disc/disk, spelt/spelled, tonne/ton.
"""

from __future__ import annotations

from hasten.cache.semantic.words import listed


def _expanded(stems: str, endings: dict[str, str]) -> dict[str, str]:
    return {
        stem + british: stem + american for stem in stems.split() for british, american in endings.items()
    }


_OUR = """
arm behavi cand clam col demean endeav enam fav ferv flav harb hon hum misbehavi neighb od parl ranc rig rum
sav savi splend succ tum val vap vig discol dishon disfav
"""
_OUR_ENDINGS = listed(
    """
    s ed ing er ers ful fully less able ably ite ites hood hoods ly al ally ings y ies ist ists ism edly ation
    """
) | {""}

_ISE = """
acclimat aesthetic agon alphabet american analog antagon apolog author bapt brutal burglar canon capital
caramel categor central character civil coloni commercial computer context critic crystall custom decentral
deputi digit digital disorgan dramat econom emphas energ epitom equal euthan external familiar fertil final
formal fossil galvan general global harmon homogen hospital human hydrogen hypnot ideal immobil immortal immun
incentiv individual industrial initial institutional internal ioni item jeopard legal legitim liberal local
lion magnet marginal material maxim mechan memor mesmer minim mobil modern monet monopol moral motor national
natural neutral normal optim organ ostrac oxid parameter parasit pasteur patron penal personal philosoph
plagiar polar popular prior privat professional public pulver radical random rational real recogn regular
reorgan revital revolution romantic sanit scrutin sensit serial sexual signal social special stabil standard
steril stigmat subsid summar symbol sympath synchron synthes system tantal terror theor token trauma traumat
trivial tyrann unauthor unrecogn urban util vandal vapor verbal victim virtual visual vocal weapon western
vector destabil demon desensit demoral depersonal anonym antholog bastard botan collectiv compartmental
contextual conceptual criminal cannibal dehuman demagnet democrat dynam emotional eulog evangel factor fantas
federal fractional hybrid hypothes idol italic jargon juxtap lemmat linear literal logic metabol metastas
militar miniatur mytholog novel operational parallel particular pedestrian polym pressur priorit proletarian
quant rational relativ satir schemat sectional solemn spiritual strateg styl subtil suburban tabular temporal
territorial tokenis transistor tribal unital vulcan hyphen homolog amort carbon colon container
"""
_ENDS = listed("e ed es ing er ers ation ations able ational ationally")
_ISE_ENDINGS = {f"is{end}": f"iz{end}" for end in _ENDS}
_YSE = {f"ys{end}": f"yz{end}" for end in ("e", "ed", "es", "ing", "er", "ers")}
_YSE_STEMS = "anal paral catal hydrol electrol dial"

_DOUBLED = """
cancel travel model label level fuel channel counsel cruel dial duel equal gravel grovel jewel libel marvel
panel pencil quarrel revel rival signal snorkel spiral swivel total towel tunnel unravel unlabel yodel shovel
shrivel bevel chisel funnel initial kennel medal parcel pedal refuel relabel remodel trammel tassel trowel
victual drivel
"""
_DOUBLED_ENDINGS = {
    f"l{end}": end for end in ("ed", "ing", "er", "ers", "or", "ors", "ings", "ous", "ously", "ery")
}
_NOT_DOUBLED = {"cruelled", "dialler", "diallers", "medallist"}  # left as they are typed

_RE = """
cent:s,d,ing:r theat:s:r fib:s:r lit:s:r calib:s:r sab:s:r lust:s:r meag::r somb::r kilomet:s:r centimet:s:r
millimet:s:r nanomet:s:r micromet:s:r millilit:s:r centilit:s:r megalit:s:r epicent:s:r
"""

_PAIRS = """
licence license licences licenses licenced licensed practise practice practised practiced practises practices
practising practicing defence defense defences defenses offence offense offences offenses pretence pretense
grey gray greyer grayer greyish grayish jewellery jewelry jeweller jeweler jewellers jewelers aluminium
aluminum moustache mustache moustaches mustaches pyjamas pajamas pyjama pajama plough plow ploughs plows
ploughed plowed ploughing plowing mould mold moulds molds mouldy moldy moulded molded moulding molding sceptic
skeptic sceptics skeptics sceptical skeptical scepticism skepticism catalogue catalog catalogues catalogs
catalogued cataloged analogue analog artefact artifact artefacts artifacts manoeuvre maneuver manoeuvres
maneuvers manoeuvring maneuvering anaesthetic anesthetic anaesthetics anesthetics anaesthesia anesthesia
anaesthetist anesthetist anaemia anemia anaemic anemic leukaemia leukemia haemorrhage hemorrhage haemorrhoids
hemorrhoids haemorrhoid hemorrhoid haemoglobin hemoglobin haemophilia hemophilia paediatric pediatric
paediatrics pediatrics paediatrician pediatrician paediatricians pediatricians paedophile pedophile
orthopaedic orthopedic orthopaedics orthopedics gynaecologist gynecologist gynaecology gynecology
gynaecological gynecological oestrogen estrogen foetus fetus foetuses fetuses foetal fetal diarrhoea diarrhea
oesophagus esophagus oedema edema coeliac celiac encyclopaedia encyclopedia encyclopaedias encyclopedias
mediaeval medieval archaeology archeology archaeologist archeologist archaeologists archeologists
archaeological archeological caesarean cesarean ageing aging judgement judgment judgements judgments
acknowledgement acknowledgment acknowledgements acknowledgments enrol enroll enrols enrolls enrolment
enrollment enrolments enrollments fulfil fulfill fulfils fulfills fulfilment fulfillment instal install
instalment installment instalments installments skilful skillful skilfully skillfully wilful willful wilfully
willfully distil distill distils distills instil instill appal appall woollen woolen woollens woolens
tranquillity tranquility marvellous marvelous tyre tire tyres tires kerb curb kerbs curbs sulphur sulfur
sulphate sulfate sulphuric sulfuric maths math mum mom mums moms aeroplane airplane aeroplanes airplanes
enquiry inquiry enquiries inquiries enquire inquire cosy cozy cosier cozier chilli chili chillies chilies
doughnut donut doughnuts donuts yoghurt yogurt yoghurts yogurts whilst while amongst among towards toward
learnt learned burnt burned dreamt dreamed spilt spilled spoilt spoiled leapt leaped sizeable sizable likeable
likable saleable salable rateable ratable liveable livable useable usable moveable movable mitre miter buses
buses focussed focused focussing focusing benefitted benefited benefitting benefiting biassed biased targetted
targeted targetting targeting worshipped worshiped worshipping worshiping cheque-book checkbook chequebook
checkbook chequebooks checkbooks paycheque paycheck speciality specialty specialities specialties carburettor
carburetor furore furor grille grille sledging sledding snowplough snowplow omelette omelet omelettes omelets
phoney phony pernickety persnickety pedlar peddler connexion connection inflexion inflection reflexion
reflection gipsy gypsy gaol jail gaols jails advertize advertise advertizing advertising colour-blind
color-blind thru through tonite tonight okay ok e-mail email e-mails emails e-mailed emailed e-mailing
emailing wi-fi wifi on-line online off-line offline web-site website web-sites websites web-page webpage
co-operate cooperate co-operation cooperation co-ordinate coordinate co-worker coworker co-workers coworkers
re-use reuse re-used reused re-install reinstall re-installed reinstalled re-installing reinstalling re-start
restart un-install uninstall log-in login log-ins logins sub-tree subtree non-stop nonstop e-book ebook
e-books ebooks e-reader ereader data-base database smart-phone smartphone smart-phones smartphones alzheimers
alzheimer's parkinsons parkinson's
"""


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    endings = {f"our{end}": f"or{end}" for end in _OUR_ENDINGS}
    table |= _expanded(_OUR, endings)
    table |= _expanded(_ISE, _ISE_ENDINGS)
    table |= _expanded(_YSE_STEMS, _YSE)
    table |= _expanded(_DOUBLED, _DOUBLED_ENDINGS)
    for entry in _RE.split():
        stem, ends, _ = entry.split(":")
        table[f"{stem}re"] = f"{stem}er"
        for end in filter(None, ends.split(",")):
            table[f"{stem}re{end}" if end != "ing" else f"{stem}ring"] = (
                f"{stem}er{'ed' if end == 'd' else end}"
            )
    words = _PAIRS.split()
    table |= dict(zip(words[::2], words[1::2], strict=True))
    return {key: value for key, value in table.items() if key not in _NOT_DOUBLED}


#: A British or older spelling, lower case, and what it is in American.
AMERICAN = _table()
