package timing

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBook(t *testing.T) {
	at := time.Unix(0, 0)
	pass := func(d time.Duration) { at = at.Add(d) }
	b := newBook("host-to-pod", func() time.Time { return at })
	pass(1 * time.Second) // nothing
	first := b.enter(Calls)
	pass(2 * time.Second)
	second := b.enter(Traffic) // beside the call
	pass(3 * time.Second)
	first()
	pass(4 * time.Second)
	second()
	pass(5 * time.Second) // nothing
	b.End()
	want := Summary{Name: "host-to-pod", Wall: 15 * time.Second, Phases: []Spent{
		{Traffic, 7 * time.Second, 1}, {Suite, 6 * time.Second, 1}, {Calls, 5 * time.Second, 1},
	}}
	if diff := cmp.Diff(want, b.Summary()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	total := Sum([]Summary{want, want})
	if total.Wall != 30*time.Second || total.Phases[0] != (Spent{Traffic, 14 * time.Second, 2}) {
		t.Errorf("sum: got %v", total)
	}
}

func TestBegin(t *testing.T) {
	Begin(context.Background(), Lab) // without a book
	ctx, book := With(context.Background(), "host-to-pod")
	inner, end := Begin(ctx, Lab)
	_, endInner := Begin(inner, Calls) // belongs to the lab
	endInner()
	end()
	book.End()
	for _, p := range book.Summary().Phases {
		if p.Phase == Calls {
			t.Errorf("a call within the lab was counted: %v", p)
		}
	}
}
