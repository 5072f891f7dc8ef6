"""Whether the test items of a folder of interactions are like a random part of the training items.

    python tests/pytorch/test_parts.py gowalla

For the test items, and for a tenth of each user's training items drawn at random: how many users
have such an item in the training part, and how many on average have it together with another item
of its user. Nothing but the standard library is needed.
"""

import random
import statistics
import sys
from collections import defaultdict
from pathlib import Path


def read(path):
    lines = (line.split() for line in path.read_text().splitlines())
    return {int(user): [int(item) for item in items] for user, *items in lines}


def main(folder):
    train, test = (read(Path(folder) / name) for name in ("train.txt", "test.txt"))
    users = defaultdict(set)
    for user, items in train.items():
        for item in items:
            users[item].add(user)
    rng = random.Random(0)
    drawn = {user: rng.sample(own, max(1, len(own) // 10)) for user, own in train.items() if len(own) > 1}
    both = sorted(set(test) & set(drawn))
    some = rng.sample(both, min(1000, len(both)))
    for name, part in (("test", test), ("a random tenth", drawn)):
        counts = [len(users[item] - {user}) for user, items in part.items() for item in items]
        shared = []
        for user in some:
            for item in part[user]:
                others = [other for other in train[user] if other != item]
                have = users[item] - {user}
                shared.append(statistics.mean(len(have & users[other]) for other in others))
        print(
            f"{name}: {statistics.mean(counts):.1f} other users have an item (median {statistics.median(counts)}), "
            f"{statistics.mean(shared):.2f} have it with another of its user's"
        )


if __name__ == "__main__":
    main(sys.argv[1])
