package benchmark

import (
	"fmt"
	"math"
)

// Time returns seconds for people, with three digits: "3.62 ms".
func Time(seconds float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}} {
		if math.Abs(seconds) >= unit.size {
			return digits(seconds/unit.size) + " " + unit.name
		}
	}
	return digits(seconds*1e9) + " ns"
}

// digits returns a number with three digits, or all of those before the point.
func digits(value float64) string {
	switch size := math.Abs(value); {
	case size >= 100:
		return fmt.Sprintf("%.0f", value)
	case size >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}
