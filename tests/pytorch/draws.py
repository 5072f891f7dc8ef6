"""The random generator of this crate in Python, so that both sides of a comparison have the same splits.

`Generator(seed, [purpose, ...])` is `rng::generator`: ChaCha8 under a key that SplitMix64's finaliser mixes (`core/src/seed.rs`), with the draws below a
bound and the shuffle of rand 0.9 (Canon's method on 32 bits; Fisher and Yates with several draws out of one word).
`python tests/pytorch/draws.py` prints the first draws of one key; they are those of the crate.
"""

import numpy as np

SPLIT, BATCHES = 3, 7
WORD = (1 << 64) - 1
HALF = (1 << 32) - 1


def mix(word):
    z = (word + 0x9E37_79B9_7F4A_7C15) & WORD
    z = (z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB & WORD
    return z ^ (z >> 31)


def hashed(seed, key):
    state = mix(seed ^ 0x9E37_79B9_7F4A_7C15)
    for word in key:
        turned = (state << 23 | state >> 41) & WORD
        state = mix(turned ^ mix(word))
    return state


class Generator:
    BLOCKS = 1024

    def __init__(self, seed, key):
        state, words = hashed(seed, key), []
        for _ in range(8):
            # PCG32, which is how `seed_from_u64` makes a key out of a word.
            state = (state * 6364136223846793005 + 11634580027462260723) & WORD
            x, turn = ((state >> 18) ^ state) >> 27 & HALF, state >> 59
            words.append((x >> turn | x << (32 - turn)) & HALF)
        self.key, self.block, self.words, self.at = words, 0, [], 0

    def refill(self):
        """The next blocks of ChaCha8, all at once."""
        counter = np.arange(self.block, self.block + self.BLOCKS, dtype=np.uint64)
        self.block += self.BLOCKS
        first = [0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574, *self.key]
        first = [np.full(self.BLOCKS, word, dtype=np.uint32) for word in first]
        first += [(counter & HALF).astype(np.uint32), (counter >> 32).astype(np.uint32)]
        first += [np.zeros(self.BLOCKS, dtype=np.uint32)] * 2
        x = [word.copy() for word in first]

        def turned(word, by):
            return word << np.uint32(by) | word >> np.uint32(32 - by)

        def quarter(a, b, c, d):
            for i, j, k, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[i] = x[i] + x[j]
                x[k] = turned(x[k] ^ x[i], by)

        for _ in range(4):
            for column in range(4):
                quarter(column, 4 + column, 8 + column, 12 + column)
            for column in range(4):
                quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
        self.words, self.at = np.stack([a + b for a, b in zip(x, first)], 1).ravel().tolist(), 0

    def word(self):
        if self.at == len(self.words):
            self.refill()
        self.at += 1
        return self.words[self.at - 1]

    def below(self, bound):
        """A number below `bound`, which is below 2^32."""
        product = self.word() * bound
        high, low = product >> 32, product & HALF
        if low > (1 << 32) - bound:
            high += low + (self.word() * bound >> 32) > HALF
        return high

    def shuffle(self, items):
        """Shuffles a list in its place."""
        chunk, left = 0, 1
        for i in range(len(items) if len(items) > 1 else 0):
            bound = i + 1
            if left == 0:
                # As many draws as a word holds: below i + 1, i + 2, ...
                product, following = bound, bound + 1
                while product * following <= HALF:
                    product, following = product * following, following + 1
                chunk, left = self.below(product), following - bound
            left -= 1
            if left == 0:
                j = chunk
            else:
                chunk, j = divmod(chunk, bound)
            items[i], items[j] = items[j], items[i]


def per_class(labels, train, val, seed):
    """Training, validation and test nodes, as `Splits::PerClass` draws them."""
    draw, parts = Generator(seed, [SPLIT]), ([], [], [])
    for c in np.unique(labels):
        nodes = np.flatnonzero(labels == c).tolist()
        for i in range(train + val):
            j = i + draw.below(len(nodes) - i)
            nodes[i], nodes[j] = nodes[j], nodes[i]
        for part, own in zip(parts, (nodes[:train], nodes[train : train + val], nodes[train + val :])):
            part.extend(own)
    return [np.sort(part) for part in parts]


def held_out(own, share, seed):
    """What is left of each user's items, and the share that was taken out, as `Interactions::held_out` does."""
    left, taken = [], []
    for user, items in enumerate(own):
        order = sorted(items)
        Generator(seed, [SPLIT, user]).shuffle(order)
        cut = len(order) - int(len(order) * share)
        left.append(sorted(order[:cut]))
        taken.append(sorted(order[cut:]))
    return left, taken


def edges(pairs, nodes, seed):
    """Edges that train, validate and test, and pairs that are none for the last two, as `EdgeTask::new` draws them; `pairs` are all edges, the
    smaller node first, in ascending order."""
    order = [tuple(pair) for pair in pairs]
    known = set(order)
    Generator(seed, [SPLIT]).shuffle(order)
    valid, test = int(len(order) * 0.05), int(len(order) * 0.1)
    cut = len(order) - test
    parts = [order[: cut - valid], order[cut - valid : cut], order[cut:]]
    others = []
    for part in (1, 2):
        draw, none = Generator(seed, [BATCHES, 0, part]), []
        while len(none) < len(parts[part]):
            u, v = draw.below(nodes), draw.below(nodes)
            pair = (min(u, v), max(u, v))
            if u != v and pair not in known:
                none.append(pair)
        others.append(none)
    return [np.array(part, dtype=np.int64) for part in parts], [np.array(part, dtype=np.int64) for part in others]


if __name__ == "__main__":
    draw, items = Generator(7, [SPLIT, 1]), list(range(20))
    draw.shuffle(items)
    print("below 1000:", [draw.below(1000) for _ in range(8)], "shuffled:", items)
