package scenario

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
)

// Duration is a time in a scenario file: a positive number with its unit, e.g. 20ms or 3s. Zero means that the file
// leaves it out.
type Duration time.Duration

// String returns the duration as in files.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalYAML takes what time.ParseDuration takes, above zero.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	parsed, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || parsed <= 0 {
		return strictyaml.Mistake(n, "want a duration above zero", "write a number and its unit, e.g. 500ms or 3s")
	}
	*d = Duration(parsed)
	return nil
}

// Bytes is an amount of data in a scenario file: a positive whole number with the unit B, KiB, MiB or GiB. Zero means
// that the file leaves it out.
type Bytes int64

// String returns the amount with the largest unit that gives a whole number.
func (b Bytes) String() string {
	unit := 0
	for b != 0 && b%1024 == 0 && unit < len(byteUnits())-1 {
		b /= 1024
		unit++
	}
	return strconv.FormatInt(int64(b), 10) + byteUnits()[unit]
}

// UnmarshalYAML takes what String writes, and nothing else: a plain number would not say its unit.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	m := bytesForm.FindStringSubmatch(n.Value)
	if n.Kind == yaml.ScalarNode && m != nil {
		amount, err := strconv.ParseInt(m[1], 10, 64)
		for _, unit := range byteUnits() {
			if unit == m[2] {
				break
			}
			if amount > math.MaxInt64/1024 {
				err = strconv.ErrRange
			}
			amount *= 1024
		}
		if err == nil {
			*b = Bytes(amount)
			return nil
		}
	}
	return strictyaml.Mistake(n, "want an amount of data", "write a whole number and one of "+strings.Join(byteUnits(),
		", ")+", e.g. 32MiB")
}

var bytesForm = regexp.MustCompile(`^([1-9][0-9]*)(B|KiB|MiB|GiB)$`)

func byteUnits() []string { return []string{"B", "KiB", "MiB", "GiB"} }
