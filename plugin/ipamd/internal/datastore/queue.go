package datastore

// queue is first in, first out. It frees the elements taken from its front once they are half of it, so that each
// element costs constant time on average.
type queue struct {
	items []*address
	head  int
}

func (q *queue) push(a *address) { q.items = append(q.items, a) }

func (q *queue) first() *address {
	if q.head == len(q.items) {
		return nil
	}
	return q.items[q.head]
}

func (q *queue) pop() *address {
	a := q.first()
	if a == nil {
		return nil
	}
	q.items[q.head] = nil
	q.head++
	if q.head > 32 && q.head*2 >= len(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return a
}
