package volume

import (
	"slices"
	"sort"
)

// leafLimit is the largest content of a leaf, in bytes, so that leaf and header
// fit one block.
const leafLimit = BlockSize - headerSize

type item struct {
	key string
	val []byte
}

// size bounds what the item takes up in an encoded leaf.
func (i item) size() int { return len(i.key) + len(i.val) + 8 }

// leaf holds the items whose keys are not below low and below the next leaf's.
type leaf struct {
	low   string
	items []item
	size  int
	// block is where the leaf lies on the LUN, 0 where it does not.
	block uint64
	// gen is the generation of the checkpoint that wrote it there.
	gen   uint64
	dirty bool
}

// tree is the map of all metadata. There is always a leaf, and the first one's
// low is "".
type tree struct {
	leaves []*leaf
	// dropped are the blocks of leaves that no longer exist.
	dropped []uint64
}

func newTree() *tree { return &tree{leaves: []*leaf{{dirty: true}}} }

// at returns the index of the leaf that key belongs to.
func (t *tree) at(key string) int {
	return sort.Search(len(t.leaves), func(i int) bool { return t.leaves[i].low > key }) - 1
}

func (l *leaf) find(key string) (int, bool) {
	return slices.BinarySearchFunc(l.items, key, func(i item, k string) int {
		switch {
		case i.key < k:
			return -1
		case i.key > k:
			return 1
		}
		return 0
	})
}

func (t *tree) get(key string) ([]byte, bool) {
	l := t.leaves[t.at(key)]
	if i, ok := l.find(key); ok {
		return l.items[i].val, true
	}
	return nil, false
}

func (t *tree) put(key string, val []byte) {
	n := t.at(key)
	l := t.leaves[n]
	l.dirty = true
	it := item{key: key, val: val}
	i, ok := l.find(key)
	if ok {
		l.size += it.size() - l.items[i].size()
		l.items[i] = it
	} else {
		l.items = slices.Insert(l.items, i, it)
		l.size += it.size()
	}
	if l.size > leafLimit && len(l.items) > 1 {
		t.split(n)
	}
}

func (t *tree) split(n int) {
	l := t.leaves[n]
	half, sum := 0, 0
	for half < len(l.items)-1 && sum < l.size/2 {
		sum += l.items[half].size()
		half++
	}
	right := &leaf{low: l.items[half].key, items: slices.Clone(l.items[half:]), size: l.size - sum, dirty: true}
	l.items = slices.Clone(l.items[:half])
	l.size = sum
	t.leaves = slices.Insert(t.leaves, n+1, right)
}

func (t *tree) del(key string) {
	n := t.at(key)
	l := t.leaves[n]
	i, ok := l.find(key)
	if !ok {
		return
	}
	l.dirty = true
	l.size -= l.items[i].size()
	l.items = slices.Delete(l.items, i, i+1)
	t.join(n)
}

// join merges leaf n with its right or left neighbour when both are small.
func (t *tree) join(n int) {
	if t.leaves[n].size > leafLimit/4 {
		return
	}
	for _, a := range []int{n, n - 1} {
		if a < 0 || a+1 >= len(t.leaves) || t.leaves[a].size+t.leaves[a+1].size > leafLimit/2 {
			continue
		}
		l, r := t.leaves[a], t.leaves[a+1]
		l.items = append(l.items, r.items...)
		l.size += r.size
		l.dirty = true
		if r.block != 0 {
			t.dropped = append(t.dropped, r.block)
		}
		t.leaves = slices.Delete(t.leaves, a+1, a+2)
		return
	}
}

// ascend calls fn with each item from key on, until fn returns false. fn must not
// change the tree.
func (t *tree) ascend(key string, fn func(key string, val []byte) bool) {
	n := t.at(key)
	i, _ := t.leaves[n].find(key)
	for ; n < len(t.leaves); n++ {
		for ; i < len(t.leaves[n].items); i++ {
			it := t.leaves[n].items[i]
			if !fn(it.key, it.val) {
				return
			}
		}
		i = 0
	}
}

// floor returns the last item whose key is not above key.
func (t *tree) floor(key string) (item, bool) {
	n := t.at(key)
	i, ok := t.leaves[n].find(key)
	if ok {
		return t.leaves[n].items[i], true
	}
	for i == 0 {
		if n == 0 {
			return item{}, false
		}
		n--
		i = len(t.leaves[n].items)
	}
	return t.leaves[n].items[i-1], true
}

func (l *leaf) encode() []byte {
	b := putU32(make([]byte, 0, l.size), uint32(len(l.items)))
	for _, it := range l.items {
		b = putString(b, it.key)
		b = putBytes(b, it.val)
	}
	return b
}

func decodeLeaf(low string, body []byte) (*leaf, error) {
	d := &decoder{b: body}
	n := d.u32()
	l := &leaf{low: low}
	for range n {
		it := item{key: string(d.bytes()), val: slices.Clone(d.bytes())}
		if d.err != nil {
			return nil, d.err
		}
		if it.key < low || (len(l.items) > 0 && it.key <= l.items[len(l.items)-1].key) {
			return nil, errCorrupt
		}
		l.items = append(l.items, it)
		l.size += it.size()
	}
	return l, d.err
}
