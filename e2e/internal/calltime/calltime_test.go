package calltime

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/report"
)

// series returns two sweeps over ten attachments, with the times that the functions return.
func series(took func(present, i int) time.Duration, nothing func(i int) time.Duration) Series {
	var s Series
	for i := range 20 {
		s = append(s, Sample{Present: i % 10, Took: took(i%10, i), Nothing: nothing(i)})
	}
	return s
}

func TestSeries(t *testing.T) {
	const ms = time.Millisecond
	idle := func(int) time.Duration { return 4 * ms }
	for _, tt := range []struct {
		name  string
		s     Series
		ratio float64
		// grows is the growth as a fraction of a call of a plugin that does nothing; exact means that the fit has no
		// error.
		grows float64
		exact bool
	}{
		{"steady", series(func(int, int) time.Duration { return 20 * ms }, idle), 5, 0, true},
		{"grows by 40 ms", series(func(n, _ int) time.Duration { return 20*ms + time.Duration(n)*40*ms }, idle), 5, 10, true},
		{"grows on a machine that is disturbed", series(
			func(n, i int) time.Duration { return 20*ms + time.Duration(n)*40*ms + time.Duration(i%3)*ms },
			func(i int) time.Duration { return time.Duration(3+i%3) * ms },
		), 7, 10, false},
		{"on a machine that gets slower", series(
			func(_, i int) time.Duration { return time.Duration(20+10*i) * ms },
			func(i int) time.Duration { return time.Duration(4+2*i) * ms },
		), 5, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slope, uncertainty := tt.s.Growth()
			if got := tt.s.Ratio(); math.Abs(got-tt.ratio) > 1 || math.Abs(slope-tt.grows) > 0.05 ||
				tt.exact != (uncertainty < 1e-9) {
				t.Errorf("got the ratio %.2f and %.3f ± %.3f for each attachment, want %.2f and %.3f, exactly: %v",
					got, slope, uncertainty, tt.ratio, tt.grows, tt.exact)
			}
		})
	}
	if _, uncertainty := (Series{{0, ms, ms}, {1, 2 * ms, ms}}).Growth(); !math.IsInf(uncertainty, 1) {
		t.Errorf("two calls: got an error of %v, want an infinite one", uncertainty)
	}
}

func TestRecorder(t *testing.T) {
	const ms = time.Millisecond
	var r Recorder
	for i := range 100 {
		r.Keep(cni.Call{Plugin: "macvlan", Verb: cni.Add, Duration: time.Duration(i+1) * ms})
	}
	r.Keep(cni.Call{Plugin: "macvlan", Verb: cni.Del, Duration: ms})
	r.Keep(cni.Call{Plugin: "macvlan", Verb: cni.Del, Duration: time.Second, ExitCode: 1})
	r.Keep(cni.Call{Plugin: "macvlan", Verb: cni.Version, Duration: ms})
	(*Recorder)(nil).Keep(cni.Call{Plugin: "macvlan", Verb: cni.Del})
	got := r.Table([]string{"route", "macvlan"}, func(k Key) Series {
		if k.Verb == cni.Del {
			return nil
		}
		return series(
			func(n, _ int) time.Duration { return 20*ms + time.Duration(n)*4*ms },
			func(int) time.Duration { return 4 * ms },
		)
	})
	want := []report.CallTime{
		{
			Plugin: "macvlan", Verb: "ADD", Calls: 100, MedianSeconds: 0.051, P99Seconds: 0.1,
			Paired: &report.PairedTime{Ratio: 5, Growth: &report.Growth{Seconds: 0.004}},
		},
		{Plugin: "macvlan", Verb: "DEL", Calls: 1, MedianSeconds: 0.001, P99Seconds: 0.001},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuantile(t *testing.T) {
	values := make([]float64, 200)
	for i := range values {
		values[i] = float64(1 + i)
	}
	for q, want := range map[float64]float64{0.5: 101, 0.99: 199, 1: 200, 0: 1} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %g: got %g, want %g", q, got, want)
		}
	}
	if got := Quantile([]float64{7}, 0.99); got != 7 {
		t.Errorf("of one value: got %g, want 7", got)
	}
}
