package strictyaml

import (
	"fmt"
	"strings"
)

// fewWords is the number of valid words up to which a message lists them instead of guessing.
const fewWords = 4

// Meant names the valid word that a wrong one probably stands for, or lists all valid words.
func Meant(word string, valid []string) string {
	if best := Nearest(word, valid); best != "" && len(valid) > fewWords {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "want one of " + strings.Join(valid, ", ")
}

// Nearest returns the valid word that a wrong one probably stands for; empty if there is none.
func Nearest(word string, valid []string) (best string) {
	distance := max(1, len(word)/3) + 1
	for _, v := range valid {
		if d := edits(strings.ToLower(word), strings.ToLower(v)); d < distance {
			best, distance = v, d
		}
	}
	return best
}

// edits counts the bytes that must be inserted, deleted, replaced or swapped with their neighbour to turn a into b (the
// optimal string alignment distance).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
