package conflist

import "testing"

// TestParse_syntax has what editors, shells and other languages make of JSON. Each answer names a cure that makes the
// file right, which Go's own words do not: they name a byte, and not the character that people see.
func TestParse_syntax(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"UTF-16 of Windows", "\xff\xfe{\x00}\x00", `n.conf:1:1: the file is UTF-16; save it as UTF-8`},
		{"UTF-16 without a mark", "{\x00}\x00", `n.conf:1:2: there is a byte 0, as in a file of UTF-16; save it as UTF-8`},
		{"Latin 1", "{\"name\": \xe9}", `n.conf:1:10: the file is not UTF-8; save it as UTF-8`},
		{"quotes of a word processor", `{"name": “n”}`, `n.conf:1:10: “ is a typographic quote; write "`},
		{"quotes around a key", `{„name“: "n"}`, `n.conf:1:2: „ is a typographic quote; write "`},
		{
			"no-break space of a web page", "{\"name\":\u00a0\"n\"}",
			`n.conf:1:9: the character U+00A0 looks like a space or like nothing; remove it`,
		},
		{
			"no width", "\u200b{}",
			`n.conf:1:1: the character U+200B looks like a space or like nothing; remove it`,
		},
		{"letters", `{"name": état}`, `n.conf:1:10: a string that starts with é has no quotes; write "like this"`},
		{"Python", `{"ipMasq": True}`, `n.conf:1:12: JSON has no True; write true`},
		{"inside a word", `{"ipMasq": trUE}`, `n.conf:1:14: JSON has no trUE; write true`},
		{"nothing, in Python", `{"ipam": None}`, `n.conf:1:10: JSON has no None; write null`},
		{"bare string", `{"master": eth0}`, `n.conf:1:12: a string has no quotes; write "like this"`},
		{"YAML", "name: n\n", `n.conf:1:2: the file does not hold JSON; write one object, from { to }`},
		{"page of an error", "<html>\n", `n.conf:1:1: the file does not hold JSON; write one object, from { to }`},
		{"no value", `{"type": , "mtu": 1400}`, `n.conf:1:10: a value is missing before ,; add it`},
		{"no last value", `{"type": }`, `n.conf:1:10: a value is missing before }; add it`},
		{"two commas", `{"type": "ptp", , "mtu": 1400}`, `n.conf:1:17: there are two commas; remove one`},
		{"two commas in a list", `{"plugins": [{},,{}]}`, `n.conf:1:17: there are two commas; remove one`},
		{
			"line break", "{\"name\": \"n,\n\"type\": \"ptp\"}",
			`n.conf:1:13: a string has a line break or another control character in it; close its quote before, or ` +
				`write it as \n`,
		},
		{
			"path of Windows", `{"dataDir": "C:\var"}`,
			`n.conf:1:17: a backslash begins an escape such as \n; write \\ for the backslash itself`,
		},
		{"octal", `{"mtu": 01500}`, `n.conf:1:10: a number is written with a 0 before it; write it in decimal digits, without`},
		{"hexadecimal", `{"mtu": 0x5dc}`, `n.conf:1:10: a number is written with a 0 before it; write it in decimal digits, without`},
		{"comma after ten", `{"mtu": 1500 "name": "n"}`, `n.conf:1:14: a comma is missing before this; add it`},
		{"sign", `{"mtu": +1}`, `n.conf:1:9: invalid character '+' looking for beginning of value; write a JSON value`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("n.conf", []byte(tt.text))
			if err == nil {
				t.Fatal("got no error")
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
