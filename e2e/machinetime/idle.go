package machinetime

import (
	"runtime"
	"time"

	"github.com/prometheus/procfs"
)

// processors says how long the machine's processors had nothing to do since it was started, summed over all of them;
// false if the machine does not say.
func processors() (idle time.Duration, known bool) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, false
	}
	stat, err := fs.Stat()
	if err != nil {
		return 0, false
	}
	return time.Duration((stat.CPUTotal.Idle + stat.CPUTotal.Iowait) * float64(time.Second)), true
}

// IdleWatch watches how much of the machine's processors nobody uses, other programs included.
type IdleWatch struct {
	idle time.Duration
	at   time.Time
}

// WatchIdle begins a watch.
func WatchIdle() IdleWatch {
	idle, _ := processors()
	return IdleWatch{idle: idle, at: time.Now()}
}

// Share returns which share of the processors' time nobody used since the watch began, between 0 and 1. The kernel
// counts in hundredths of a second, so a watch should last several tenths. It returns 0 if the machine does not say.
func (w IdleWatch) Share() float64 {
	idle, known := processors()
	passed := time.Since(w.at) * time.Duration(runtime.NumCPU())
	if !known || passed <= 0 {
		return 0
	}
	return min(1, max(0, float64(idle-w.idle)/float64(passed)))
}
