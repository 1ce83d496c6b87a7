"""Common words by kind: two of one kind are two different things. "=" joins words for the same thing."""

from __future__ import annotations

THINGS = {
    "pet": """
        dog=puppy=pup=canine=dogs=hound, cat=kitten=feline=kitty, rabbit=bunny, hamster, guinea_pig, goldfish,
        parrot, budgie, tortoise=turtle, horse=pony, snake, lizard
    """,
    "animal": """
        cow=cattle, pig, sheep, goat, chicken=hen, duck, elephant, giraffe, lion, tiger, leopard, cheetah,
        wolf=wolves, fox, bear, panda, kangaroo, koala, monkey, gorilla, whale, dolphin, shark, octopus,
        squid, penguin, owl, eagle, ostrich, bat, mouse=mice, rat, squirrel, hedgehog, frog, toad, crocodile,
        alligator, bee, wasp, ant, spider, butterfly=butterflies, mosquito, snail, camel, zebra, hippo, rhino,
        seal, otter, platypus, salmon, tuna
    """,
    "person": """
        toddler, teenager=teen=adolescent=teens, adult=grown-up=grown-ups, newborn, senior=pensioner=elderly
        toddler, teenager=teen=adolescent=teens, adult=grown-up=grown-ups, newborn, senior=pensioner=elderly
    """,
    "kin": """
        mother=mum=mom=mummy, father=dad=daddy, brother, sister, grandmother=grandma=granny=nan,
        grandfather=grandpa=granddad, aunt, uncle, cousin, husband, wife, son, daughter, nephew, niece,
        boyfriend, girlfriend, fiance=fiancé, boss, landlord, flatmate=roommate=housemate, neighbor, teacher
    """,
    "meal": "breakfast, lunch, dinner=supper, brunch",
    "meat": """
        beef=steak, pork, chicken, lamb, turkey, duck, bacon, ham, fish, salmon, tuna, prawn=shrimp, tofu,
        lobster
    """,
    "grain": """
        rice, quinoa, pasta=spaghetti, couscous, oats=oatmeal=porridge, barley, noodles, lentils, chickpeas,
        bread, potato=potatoes
    """,
    "fruit": """
        banana, orange, lemon, lime, mango=mangoes, strawberry=strawberries, blueberry=blueberries, grape,
        pear, peach, plum, cherry=cherries, pineapple, avocado, kiwi, melon, tomato=tomatoes
    """,
    "vegetable": """
        carrot, onion, garlic, broccoli, spinach, cucumber, cabbage, lettuce, mushroom, pepper,
        courgette=zucchini, aubergine=eggplant, peas, pumpkin, beetroot
    """,
    "drink": """
        coffee=espresso, tea, beer, wine, whisky=whiskey, vodka, gin, rum, milk, juice, water, cola,
        champagne, cider
    """,
    "dairy": "butter, margarine, cream, cheese, yogurt, milk, egg",
    "nut": "peanut, almond, walnut, cashew, pistachio, hazelnut",
    "color": """
        red, blue, green, yellow, purple=violet, pink, brown, gray, orange, turquoise, beige, black, white,
        gold, silver
    """,
    "vehicle": """
        car=auto=automobile=cars, van=lorry=truck, motorcycle=motorbike, bicycle, bus=coach=buses, train=rail,
        tram, plane=flight=fly=flights=flying, ferry, taxi=cab, scooter, caravan, boat, helicopter
    """,
    "home_part": """
        kitchen, bathroom, bedroom, garage, attic=loft, basement=cellar, garden=yard, balcony=balconies,
        roof=ceiling, floor, wall, living_room
    """,
    "fixture": """
        boiler, radiator, oven, fridge=refrigerator, freezer, dishwasher, microwave, washing_machine=washer,
        tumble_dryer=dryer, toilet=loo, shower, sink, bathtub=bath, kettle, toaster, tap=faucet, thermostat,
        chimney, window, door, carpet, sofa=couch, mattress, curtains
    """,
    "clothes": """
        shirt, jeans=trousers, skirt, jacket, coat, shoes=shoe, boots, trainers=sneakers, socks, hat, gloves,
        scarf, sweater=jumper, suit, tie
    """,
    "gear": """
        laptop=notebook, printer, monitor, keyboard, router, modem, tablet, camera, headphones=earphones,
        speaker, projector, webcam, scanner, tv=television=telly, smartwatch, drone
    """,
    "body": """
        knee, ankle, elbow, shoulder, wrist, hip, neck, back, stomach=tummy=belly, chest, throat, ear, eye,
        nose, tooth=teeth, tongue, lip, finger, thumb, toe, foot=feet, hand, arm, leg, hair, heart, liver,
        kidney, lung, brain, bladder, thigh, spine
    """,
    "illness": """
        flu=influenza, cold, covid=coronavirus=covid-19, measles, chickenpox, mumps, asthma, diabetes,
        migraine, eczema, psoriasis, malaria, pneumonia, bronchitis, tonsillitis, arthritis, depression,
        anxiety, dementia=alzheimer's, cancer, stroke, anemia, shingles, hay_fever, appendicitis, gout,
        sciatica, tinnitus, acne
    """,
    "expert": """
        dentist, doctor=gp, optician=optometrist, lawyer=solicitor=attorney, accountant, plumber, electrician,
        vet, nurse, pharmacist, carpenter, mechanic, teacher, therapist=psychologist, surgeon, nanny,
        architect, barber=hairdresser
    """,
    "venue": """
        hotel, restaurant, museum, library, cinema=movie_theater=theater, zoo, gym, pharmacy=chemist,
        hospital, supermarket, church, university, airport, stadium, pub, cafe, post_office, beach, spa,
        aquarium
    """,
    "sport": """
        football=soccer, rugby, cricket, tennis, golf, basketball, baseball, hockey, boxing, swimming,
        badminton, volleyball, snooker, cycling, chess, karate, judo, yoga, pilates, skiing, surfing
    """,
    "instrument": """
        guitar, piano, violin, drums, flute, saxophone, trumpet, cello, ukulele, clarinet, harp, bass guitar,
        piano, violin, drums, flute, saxophone, trumpet, cello, ukulele, clarinet, harp, bass
    """,
    "subject": """
        chemistry=chem, physics, biology, maths=math=mathematics, history, geography, economics, philosophy,
        psychology, sociology, astronomy
    """,
    "element": """
        gold, silver, copper, iron, aluminum, lead, zinc, tin, nickel, oxygen, hydrogen, nitrogen, carbon,
        helium, sodium, potassium, calcium, magnesium, sulfur, uranium
    """,
    "vitamin": """
        magnesium, zinc, iron, calcium, potassium, iodine, omega-3, creatine, collagen, folate=folic
    """,
    "currency": """
        dollar=usd=dollars=bucks=$, euro=eur=€, pound=gbp=quid=sterling=£, yen=jpy=¥, rupee=inr=₹, franc=chf,
        peso, yuan=renminbi=cny, krona=sek
    """,
    "shape": """
        circle, triangle, rectangle, square, cylinder, sphere, cone, pyramid, cube, hexagon, pentagon,
        trapezoid=trapezium
    """,
    "statistic": "mean=average, median, variance, standard_deviation, mode",
    "operation": """
        addition=add, subtraction=subtract, multiplication=multiply=multiplied, division=divide=divided,
        square_root, factorial
    """,
    "measure": """
        height=tall, weight=heavy=weigh=weighs, depth=deep, temperature, speed, volume, area, circumference,
        diameter, radius, perimeter, density, voltage, population
    """,
    "material": """
        leather, suede, silk, cotton, wool, linen, denim, velvet, nylon, polyester, plastic, glass, ceramic,
        stainless_steel, cast_iron, marble, granite, concrete, oak, pine, bamboo
    """,
    "insurance": """
        car_insurance=motor_insurance=auto_insurance, home_insurance=house_insurance, travel_insurance,
        life_insurance, pet_insurance, contents_insurance, unemployment_insurance
    """,
    "card": """
        credit_card, debit_card, gift_card=gift_cards=voucher, sim_card, library_card, business_card,
        travel_card, prepaid_card, green_card
    """,
    "tax": """
        income_tax, council_tax, inheritance_tax, capital_gains, corporation_tax, property_tax, sales_tax,
        road_tax, vat, stamp_duty, estate_tax, gift_tax, wealth_tax
    """,
    "loan": "mortgage, car_loan, student_loan, payday_loan, personal_loan, overdraft",
    "document": """
        passport, driving_license=driver's_license, birth_certificate, marriage_certificate,
        death_certificate, work_permit, resume=cv, cover_letter, payslip
    """,
    "format": """
        pdf, docx, csv, json, xml, yaml, html, markdown, jpg=jpeg, png, gif, svg, mp3, mp4, wav, xlsx, epub,
        webp, heic, zip, txt
    """,
    "container": """
        list, dictionary=dict, tuple, set, dataframe, linked_list, queue, stack, hash_map=hashmap, heap,
        binary_tree
    """,
    "verb_http": "post_request, put_request, delete_request, patch_request, get_request",
    "unit_data": """
        gb=gigabyte=gigabytes=gig=gigs, mb=megabyte=megabytes, tb=terabyte=terabytes, kb=kilobyte=kilobytes
        gb=gigabyte=gigabytes=gig=gigs, mb=megabyte=megabytes, tb=terabyte=terabytes, kb=kilobyte=kilobytes
    """,
    "unit_mass": """
        kg=kilo=kilos=kilogram=kilograms=kilogramme, gram=grams=g, pounds=lb=lbs, ounce=ounces=oz, stone,
        tonne=tonnes, mg=milligram=milligrams
    """,
    "unit_length": """
        km=kilometer=kilometers=kilometre=kilometres=kms, mile=miles, meter=meters=metre=metres,
        centimeter=centimeters=cm=cms, inch=inches, feet=foot=ft, yard=yards, millimeter=millimeters=mm
    """,
    "unit_volume": """
        liter=liters=l, milliliter=milliliters=ml, gallon=gallons, pint=pints, cup=cups,
        tablespoon=tablespoons=tbsp, teaspoon=teaspoons=tsp, fluid_ounce
    """,
    "unit_heat": "celsius=centigrade, fahrenheit, kelvin",
    "weekday": """
        monday=mon=mondays, tuesday=tue=tues=tuesdays, wednesday=wed=weds=wednesdays,
        thursday=thu=thur=thurs=thursdays, friday=fri=fridays, saturday=saturdays=SAT, sunday=sundays
    """,
    "month": """
        january=jan, february=feb, march, april=apr, May, june=jun, july=jul, august=aug, september=sep=sept,
        october=oct, november=nov, december=dec
    """,
    "season": "spring, summer, autumn=fall, winter",
    "day": "today=tonight=now, tomorrow, yesterday",
    "part_of_day": """
        morning=mornings, afternoon=afternoons, evening=evenings=night=nights=overnight=midnight=tonight,
        noon=midday
    """,
    "tone": "formal, informal=casual, friendly, sarcastic=sarcasm, funny=humorous, angry, romantic",
    "piece": """
        email=e-mail, essay, haiku, limerick, sonnet, story, speech, tweet, letter, slogan, joke,
        cover_letter, blog_post, press_release, song, recipe, checklist, tagline, riddle
    """,
    "level": "beginner=beginners=novice, intermediate, advanced=expert",
    "tense": "past_tense, present_tense, future_tense, past_participle, subjunctive, gerund",
    "word_class": "noun, verb, adjective, adverb, pronoun, preposition, conjunction",
    "attribute": """
        capital, population, currency, anthem, flag, motto, president, climate, area, national_animal capital,
        population, currency, anthem, flag, motto, president, climate, area, national_animal
    """,
    "plan": "premium=pro, enterprise, basic, family",
    "storage": "ram=memory, ssd, hdd, cpu=processor, gpu=graphics_card, motherboard, psu",
    "login": "password=passwords, username, pin, passkey, 2fa, email_address, phone_number, profile_picture",
    "event": """
        wedding=marriage, funeral, birthday, graduation, baptism=christening, interview, divorce, engagement,
        retirement
    """,
    "war": """
        world_war_i=ww1=first_world_war=wwi=1st_world, world_war_ii=ww2=second_world_war=wwii=2nd_world,
        cold_war, civil_war, vietnam_war
    """,
    "degree": """
        phd=doctorate, master's=masters=msc=mba, bachelor's=bachelors=bsc, a-level=a-levels, gcse=gcses,
        diploma phd=doctorate, master's=masters=msc=mba, bachelor's=bachelors=bsc, a-level=a-levels,
        gcse=gcses, diploma
    """,
    "channel": "phone=call=telephone, email",
    "gadget_part": """
        screen, battery, speaker, microphone=mic, camera, charger, keyboard, touchpad=trackpad, fan,
        bluetooth, wifi
    """,
    "plant": """
        rose, tulip, orchid, cactus, basil, mint, lavender, tomato=tomatoes, succulent=succulents, bamboo,
        ivy, lemon_tree, grass=lawn, hedge
    """,
    "stain": """
        blood, ink, wine, coffee, grease, chocolate, wax, rust, mold, limescale, chewing_gum, paint, grass
        blood, ink, wine, coffee, grease, chocolate, wax, rust, mold, limescale, chewing_gum, paint, grass
    """,
    "pest": """
        ants, mice=mouse, rats, wasps, moths, cockroaches, bedbugs, fleas, slugs, flies, spiders, bees,
        silverfish
    """,
    "dish": """
        pizza, burger, curry, soup, salad, sushi, lasagna=lasagne, risotto, omelet, pancake=pancakes, chili,
        cake, brownies, cookies=biscuits, stew, pie, sandwich
    """,
    "religion": """
        christian=christianity, muslim=islam, jewish=judaism, hindu=hinduism, buddhist=buddhism, sikh=sikhism
        christian=christianity, muslim=islam, jewish=judaism, hindu=hinduism, buddhist=buddhism, sikh=sikhism
    """,
    "act": """
        rename, print=printing, delete=erase=deleting, create, export=exporting, import=importing,
        install=installing, uninstall, update=updating, reset=resetting, renew=renewing,
        cancel=cancelling=canceling=cancellation, sell=selling, recover=restore, hide=hiding, divorce, marry,
        register, quit=resign, withdraw, exchange, donate, recycle, repair, mute, track, vote, pronounce,
        spell, invest, retire, adopt, swim, drink, eat, fly, apply, insure, extend, return=returning,
        share=sharing
    """,
    "audience": """
        contractor=freelancer=self-employed=freelancers=contractors, student, tourist, pensioner=senior,
        infant=baby=babies=newborn, toddler, teenager=teen, pregnant=pregnancy, veteran, beginner,
        employee=staff=worker, manager, foreigner, child=kid=children, adult, dog, cat, horse
    """,
    "matter": """
        salary, opening=hours=open=opens, warranty, deadline, password, username, capital, currency,
        population, visa, passport, refund, battery, author, side_effects, ingredients, receipt, contract,
        address, disadvantages=drawbacks
    """,
}

#: Kinds whose words also come up beside the point: they count only between texts that are much alike.
LOOSE = frozenset(("act", "audience", "matter"))
