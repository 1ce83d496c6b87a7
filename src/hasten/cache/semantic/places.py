"""Names by kind: two different names of one kind are two different things. "=" joins names of the same thing."""

from __future__ import annotations

PLACES = {
    "country": """
        uk=britain=british=united_kingdom=great_britain=gb=brits=briton=u.k, england=english,
        america=american=americans=united_states=states=usa=u.s=u.s.a=US, scotland=scottish=scots,
        wales=welsh, ireland=irish=eire, northern_ireland, france=french, germany=german=germans,
        spain=spanish=spaniards, italy=italian=italians, portugal=portuguese, netherlands=dutch=holland,
        belgium=belgian, switzerland=swiss, austria=austrian, poland=Polish=poles,
        czech=czechia=czech_republic, slovakia=slovak, hungary=hungarian, romania=romanian,
        bulgaria=bulgarian, greece=greek=greeks, croatia=croatian, serbia=serbian, slovenia, bosnia, albania,
        estonia, latvia, lithuania, sweden=swedish=swedes, norway=norwegian, denmark=danish=danes,
        finland=finnish, iceland=icelandic, russia=russian=russians, ukraine=ukrainian, Turkey=turkish=turks,
        cyprus, malta=maltese, canada=canadian=canadians, mexico=mexican=mexicans, brazil=brazilian,
        argentina=argentinian=argentine, chile=chilean, peru=peruvian, colombia=colombian, venezuela, ecuador,
        bolivia, uruguay, paraguay, cuba=cuban, jamaica=jamaican, haiti, panama, guatemala, honduras,
        costa_rica, australia=australian=australians=aussie=aussies=oz=down_under, new_zealand=nz=kiwi=kiwis,
        japan=japanese, china=chinese=prc, india=indian=indians, pakistan=pakistani, bangladesh, sri_lanka,
        nepal=nepali, indonesia=indonesian, malaysia=malaysian, singapore, thailand=thai, vietnam=vietnamese,
        cambodia, laos, myanmar=burma, philippines=filipino, south_korea=korea=korean=koreans,
        north_korea=north_korean, taiwan=taiwanese, hong_kong, mongolia, kazakhstan, afghanistan,
        israel=israeli, palestine, lebanon, syria, jordan, egypt=egyptian=egyptians, morocco=moroccan,
        algeria, tunisia, libya, sudan, kenya=kenyan, nigeria=nigerian=nigerians, ghana=ghanaian, tanzania,
        uganda, ethiopia=ethiopian, zimbabwe, zambia, botswana, namibia, angola, mozambique, madagascar,
        senegal, cameroon, south_africa=south_african, saudi_arabia=saudi, uae=united_arab_emirates, qatar,
        kuwait, oman, bahrain, yemen, iran=iranian, iraq=iraqi, luxembourg, monaco, liechtenstein,
        eu=european_union
    """,
    "continent": """
        africa=african, asia=asian, europe=european, antarctica, oceania, south_america=south_american,
        north_america
    """,
    "state": """
        texas=texan=tx, california=californian=calif, florida, illinois, ohio, michigan, oregon, arizona,
        nevada, colorado, virginia, pennsylvania, massachusetts, maryland, alaska, hawaii, utah, indiana,
        iowa, idaho, kansas, kentucky, louisiana, maine, minnesota, mississippi, missouri, montana, nebraska,
        new_hampshire, new_jersey=nj, new_mexico, north_carolina, south_carolina, north_dakota, south_dakota,
        oklahoma, rhode_island, tennessee, vermont, wisconsin, wyoming, alabama, arkansas, connecticut,
        delaware, washington_state, west_virginia, ontario, quebec, alberta, british_columbia=bc, manitoba,
        saskatchewan, nova_scotia, queensland=qld, new_south_wales=nsw, tasmania, south_australia,
        western_australia, bavaria=bavarian, kerala, tamil_nadu, karnataka, maharashtra, gujarat, punjab,
        rajasthan, bihar, west_bengal
    """,
    "city": """
        london=londoner=londoners, paris=parisian, rome=roman, berlin, madrid, barcelona, lisbon, porto,
        amsterdam, rotterdam, brussels, vienna, zurich, geneva, munich, hamburg, frankfurt, milan,
        venice=venetian, florence, naples, athens, prague, budapest, warsaw, krakow, dublin, cork, edinburgh,
        glasgow, aberdeen, dundee, inverness, manchester, liverpool, birmingham, leeds, bristol, brighton,
        cardiff, swansea, belfast, sheffield, newcastle, nottingham, leicester, derby, coventry, oxford,
        cambridge, bradford, southampton, portsmouth, plymouth, exeter, norwich, hull, york, camden, brixton,
        hackney, croydon, islington, lambeth, toronto, vancouver, montreal, ottawa, calgary, edmonton,
        winnipeg, sydney, melbourne, brisbane, perth, adelaide, canberra, hobart, auckland, wellington,
        christchurch, tokyo, osaka, kyoto, seoul, busan, beijing, shanghai, shenzhen, mumbai=bombay, delhi,
        bangalore=bengaluru, chennai=madras, kolkata=calcutta, hyderabad, pune, jaipur, goa, kochi, bangkok,
        phuket, manila, jakarta, bali, hanoi, chicago, boston, seattle, miami, dallas, houston, austin,
        denver, atlanta, philadelphia=philly, detroit, orlando, portland, las_vegas=vegas, los_angeles=la,
        san_francisco=sf, san_diego, new_york=nyc=new_york_city, new_orleans, salt_lake_city, washington_dc,
        istanbul, ankara, cairo, nairobi, lagos, accra, johannesburg, cape_town, durban, marrakech,
        casablanca, dubai, abu_dhabi, doha, riyadh, tel_aviv, jerusalem, moscow, kyiv=kiev, oslo, bergen,
        stockholm, gothenburg, copenhagen, helsinki, reykjavik, buenos_aires, rio_de_janeiro=rio, sao_paulo,
        santiago, lima, bogota, mexico_city, havana, marseille, lyon, nice, bordeaux, toulouse, seville,
        valencia, malaga, ibiza, mallorca=majorca, tenerife, crete, santorini, mykonos
    """,
    "airport": """
        heathrow=lhr, gatwick=lgw, stansted=stn, luton, jfk, newark, laguardia, lax, o'hare, changi, schiphol,
        dulles
    """,
    "station": """
        paddington, euston, waterloo, kings_cross, st_pancras, london_bridge, london_victoria, marylebone,
        liverpool_street
    """,
    "planet": "mercury, venus, earth, mars, jupiter, saturn, uranus, neptune, pluto",
    "water": """
        amazon, nile, danube, thames, rhine, mississippi, ganges, yangtze, pacific, atlantic, arctic,
        mediterranean, baltic
    """,
    "mountain": """
        everest, k2, kilimanjaro, mont_blanc, matterhorn, denali, fuji, ben_nevis, snowdon, himalayas, alps,
        andes, rockies
    """,
    "speech": """
        mandarin, cantonese, arabic, hindi, urdu, bengali, tamil, telugu, latin, hebrew, esperanto, swahili,
        gaelic, catalan, french, german, spanish, italian, portuguese, russian, japanese, english
    """,
}

BRANDS = {
    "program": """
        excel, powerpoint=ppt, outlook, onedrive, sharepoint, onenote, google_sheets=gsheets=sheets,
        google_docs=gdocs, google_slides, google_drive=gdrive, google_calendar, google_maps, google_photos,
        google_forms, gmail, icloud, dropbox, microsoft_word=ms_word, libreoffice, latex, notepad,
        microsoft_teams=ms_teams, slack, zoom, trello, asana, jira, confluence, notion, figma, photoshop,
        illustrator, lightroom, indesign, premiere, canva, gimp, salesforce, hubspot, zendesk, shopify,
        wordpress, wix, squarespace, mailchimp, quickbooks, xero, evernote, obsidian, miro, airtable,
        power_bi, tableau, autocad, blender, acrobat
    """,
    "network": """
        facebook=fb, instagram=insta=ig, whatsapp, tiktok, twitter, snapchat=snap, linkedin, reddit,
        pinterest, telegram, discord, youtube=yt, tinder, bumble, hinge, signal, twitch
    """,
    "stream": """
        netflix, spotify, disney=disney+, hulu, amazon_prime=prime_video, apple_music, apple_tv, hbo, iplayer,
        itv, now_tv, audible, paramount
    """,
    "system": """
        linux=ubuntu=debian=fedora=centos=arch, windows, mac=macos=osx=macbook=imac, chromebook=chromeos
        linux=ubuntu=debian=fedora=centos=arch, windows, mac=macos=osx=macbook=imac, chromebook=chromeos
    """,
    "phone": "android, iphone=ios=ipad",
    "browser": "chrome, firefox, safari, edge, opera, brave",
    "device": """
        iphone, ipad, kindle, galaxy, pixel, macbook, chromebook, playstation=ps5=ps4, xbox,
        nintendo_switch=switch, airpods, apple_watch, fitbit, garmin, alexa=echo, chromecast, roku,
        raspberry_pi, arduino
    """,
    "language": """
        python=py=python3, javascript=js=node, typescript=ts, java, kotlin, golang, ruby, php, perl, scala,
        haskell, matlab, fortran, cobol, c#=csharp=c-sharp, c++=cpp, vba, swift, lua, julia, elixir, erlang,
        clojure, prolog
    """,
    "shell": "powershell, bash, zsh, fish, cmd=command_prompt",
    "database": """
        postgres=postgresql=psql, mysql, sqlite, mongodb=mongo, redis, mariadb, oracle, elasticsearch,
        cassandra, dynamodb, sql_server=mssql, snowflake, bigquery, neo4j
    """,
    "devops": "docker, kubernetes=k8s=kubectl, terraform, ansible, puppet, vagrant, jenkins, helm, podman",
    "cloud": """
        aws=ec2, azure, gcp=google_cloud, heroku, vercel, netlify, cloudflare, digitalocean, firebase,
        supabase aws=ec2, azure, gcp=google_cloud, heroku, vercel, netlify, cloudflare, digitalocean,
        firebase, supabase
    """,
    "forge": "github, gitlab, bitbucket, subversion=svn, mercurial",
    "package": """
        npm, yarn, pip, conda, poetry, maven, gradle, cargo, composer, homebrew=brew, apt, yum, dnf, pacman
        npm, yarn, pip, conda, poetry, maven, gradle, cargo, composer, homebrew=brew, apt, yum, dnf, pacman
    """,
    "framework": """
        react, angular, vue, svelte, django, flask, fastapi, laravel, rails, spring_boot, express,
        nextjs=next.js
    """,
    "library": """
        numpy, pandas, tensorflow, pytorch, keras, matplotlib, seaborn, scikit-learn=sklearn, opencv, polars
        numpy, pandas, tensorflow, pytorch, keras, matplotlib, seaborn, scikit-learn=sklearn, opencv, polars
    """,
    "editor": """
        vim=neovim, emacs, vscode=vs_code, pycharm, intellij, eclipse, xcode, android_studio, sublime
    """,
    "fetcher": "curl, wget, postman, httpie",
    "maker": """
        apple, samsung, google, microsoft, huawei, xiaomi, oneplus, sony, lg, dell, hp, lenovo, asus, acer,
        canon, epson, brother, nikon, bosch, dyson
    """,
    "car_make": """
        tesla, toyota, honda, ford, bmw, audi, volkswagen=vw, nissan, hyundai, kia, volvo, mercedes, renault,
        peugeot, skoda, mazda, subaru
    """,
    "shop": """
        amazon, ebay, etsy, asos, zara, ikea, tesco, sainsbury's=sainsburys, asda, aldi, lidl, walmart,
        costco, primark, argos, target, waitrose, morrisons, john_lewis, currys, h&m, shein, vinted,
        decathlon, uniqlo, best_buy, home_depot
    """,
    "bank": """
        hsbc, barclays, lloyds, natwest, santander, halifax, nationwide, citibank=citi, wells_fargo,
        capital_one, monzo, revolut, starling, chase, bank_of_america, td, rbc, anz, westpac, commbank,
        american_express=amex, n26, first_direct
    """,
    "payment": """
        paypal, klarna, venmo, stripe, apple_pay, google_pay, zelle, cash_app, clearpay, afterpay,
        western_union paypal, klarna, venmo, stripe, apple_pay, google_pay, zelle, cash_app, clearpay,
        afterpay, western_union
    """,
    "broker": "vanguard, fidelity, robinhood, coinbase, binance, schwab, etoro, trading_212, kraken",
    "coin": "bitcoin=btc, ethereum=eth=ether, dogecoin, litecoin, solana",
    "airline": """
        ryanair, easyjet, british_airways=ba, lufthansa, emirates, qantas, delta, united, klm, air_france,
        virgin_atlantic, virgin_australia, jet2, wizz, southwest, jetblue, qatar_airways, etihad, air_canada,
        jetstar, air_india, indigo
    """,
    "carrier": """
        vodafone, verizon, t-mobile, ee, o2, at&t, telstra, optus, giffgaff, sky, virgin_media, bt, talktalk,
        jio, airtel, comcast=xfinity
    """,
    "courier": "dhl, ups, fedex, hermes=evri, dpd, usps, royal_mail, australia_post, canada_post",
    "ride": "uber, lyft, bolt, grab, ola, airbnb, booking.com, expedia, vrbo",
    "eats": """
        deliveroo, uber_eats, just_eat, doordash, grubhub, mcdonald's=mcdonalds, starbucks, costa, subway,
        kfc, nando's, greggs, burger_king
    """,
    "assistant": "chatgpt=openai, gemini, copilot, claude, siri, grok, deepseek",
    "feast": """
        christmas=xmas, easter, halloween, thanksgiving, ramadan, diwali, hanukkah, eid, passover,
        valentine's, mother's_day, father's_day
    """,
    "drug": """
        paracetamol=acetaminophen=tylenol=panadol, ibuprofen=advil=nurofen, aspirin, naproxen, amoxicillin,
        penicillin, metformin, atorvastatin, insulin, codeine, morphine, omeprazole, sertraline,
        prozac=fluoxetine, cetirizine, loratadine, warfarin, ozempic, melatonin
    """,
    "author": """
        shakespeare, dickens, austen, tolkien, orwell, hemingway, tolstoy, dostoevsky, rowling, kafka, joyce,
        twain, bronte, agatha_christie
    """,
    "composer": """
        mozart, beethoven, bach, chopin, vivaldi, wagner, handel, brahms, tchaikovsky, verdi, puccini,
        schubert, haydn
    """,
    "painter": """
        picasso, monet, rembrandt, van_gogh, da_vinci=leonardo, michelangelo, dali, vermeer, klimt, munch,
        manet, raphael, warhol
    """,
    "thinker": """
        newton, einstein, darwin, galileo, edison, curie, hawking, freud, plato, aristotle, socrates, kepler,
        copernicus, bohr, faraday
    """,
    "ruler": """
        cleopatra, napoleon, hitler, stalin, churchill, lincoln, washington, kennedy, obama, trump, biden,
        thatcher, gandhi, caesar, nero, augustus, elizabeth, henry, lenin, nixon, reagan
    """,
}
