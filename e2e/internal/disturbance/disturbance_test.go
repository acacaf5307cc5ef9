package disturbance

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name     string
		worst    time.Duration
		load     float64
		controls []string
		want     Finding
	}{
		{"a quiet machine", 4 * time.Millisecond, 1, nil, Finding{}},
		{"busy loops on each processor", 30 * time.Millisecond, 3.2, nil, Finding{}},
		{"late", 80 * time.Millisecond, 1, nil, Finding{Doubtful: true, Text: "node/a was up to 80ms late"}},
		{"crowded", 8 * time.Millisecond, 7.4, nil, Finding{Doubtful: true, Text: "7 threads wanted each processor"}},
		{"very late", 300 * time.Millisecond, 1, nil, Finding{Doubtful: true, Excused: true, Text: "node/a was up to 300ms late"}},
		{"very crowded", 0, 47, nil, Finding{Doubtful: true, Excused: true, Text: "47 threads wanted each processor"}},
		{
			"a control lost something", 60 * time.Millisecond, 5,
			[]string{"a control flow lost 1 of 9 requests", "another too"},
			Finding{
				Doubtful: true, Excused: true, Lost: true,
				Text: "a control flow lost 1 of 9 requests, node/a was up to 60ms late, 5 threads wanted each " +
					"processor",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.worst, "node/a", tt.load, tt.controls); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Callers without a record need not check for nil.
func TestRecord_nil(t *testing.T) {
	r := Of(context.Background())
	r.Control("x")
	r.Late(time.Hour, "x")
	r.Progress()
	r.Ask(context.Background(), nil)
	if got := r.Idle(); got != 0 {
		t.Errorf("got %s, want 0", got)
	}
}

// A unit in which something ends continues beyond its time, and ends once nothing does.
func TestWithTimeout(t *testing.T) {
	const limit, stalled = 50 * time.Millisecond, 200 * time.Millisecond
	parent, r := Begin(context.Background())
	ctx, cancel := withTimeout(parent, limit, stalled)
	defer cancel()
	for r.interval.Given() < limit+2*stalled {
		select {
		case <-ctx.Done():
			if idle := (*TimeoutError)(nil); !errors.As(context.Cause(ctx), &idle) || idle.Idle < stalled {
				t.Fatalf("ended while things ended: %v", context.Cause(ctx))
			}
			t.Skip("this process was stopped for so long that nothing ended meanwhile")
		case <-time.After(10 * time.Millisecond):
			r.Progress()
		}
	}
	<-ctx.Done()
	var timeout *TimeoutError
	if err := context.Cause(ctx); !errors.As(err, &timeout) || timeout.Limit != limit || timeout.Idle < stalled {
		t.Errorf("got the cause %v, want a timeout after %s without an end of anything", err, stalled)
	}
}
