package eval

import "sync"

// cache keeps the values that were used last, so that items of one scene share what is read of it. A value is made once, also
// when several goroutines ask at the same time.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	size    int
	entries []*entry[K, V] // the one used last at the end
}

type entry[K comparable, V any] struct {
	key   K
	once  sync.Once
	value V
	err   error
}

func newCache[K comparable, V any](size int) *cache[K, V] { return &cache[K, V]{size: size} }

// get returns the value of a key and makes it where it is not there. A failure is not kept.
func (c *cache[K, V]) get(k K, make func() (V, error)) (V, error) {
	c.mu.Lock()
	e := c.take(k)
	if e == nil {
		e = &entry[K, V]{key: k}
	}
	c.entries = append(c.entries, e)
	if len(c.entries) > c.size {
		c.entries = c.entries[1:]
	}
	c.mu.Unlock()
	e.once.Do(func() { e.value, e.err = make() })
	if e.err != nil {
		c.mu.Lock()
		for i, other := range c.entries {
			if other == e {
				c.entries = append(c.entries[:i:i], c.entries[i+1:]...)
				break
			}
		}
		c.mu.Unlock()
	}
	return e.value, e.err
}

func (c *cache[K, V]) take(k K) *entry[K, V] {
	for i, e := range c.entries {
		if e.key == k {
			c.entries = append(c.entries[:i:i], c.entries[i+1:]...)
			return e
		}
	}
	return nil
}
