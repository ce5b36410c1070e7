package streamstest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lastSemantic is the last number of the semantics that docs/semantics.md speaks of.
const lastSemantic = 99

// shownBy names the tests of those numbers that no test says in its comment.
var shownBy = map[int][]string{
	1: {"TestSmallestTimestampIsNext"}, 4: {"TestSmallestTimestampIsNext"}, 8: {"TestNegativeTimestamps"},
	10: {"TestPositionsAreThoseOfWhatComesNext"}, 11: {"TestPunctuators"},
	83: {"TestFlushWritesLastValueSortedByKeyAndUpdatesInWriteOrder", "TestChangelogsEqualKafkas"},
	85: {"TestReplayEndsOnlyWhenEverythingWasRead"},
	86: {"TestWhereARestoreBegins"},
	87: {"TestReplayWaitsForAnOpenTransactionAndLeavesOutWhatItAborts"},
	88: {"TestSecondProcessWithTheSameIdentityFencesTheFirst", "TestZombieThatOnlyPunctuatesIsFenced"},
	89: {"TestKilledBetweenAnyTwoStepsOfACommitTheCountsAreExactAndOnlyTheDifferenceIsRestored"},
	90: {"TestAtLeastOnceLosesNothing"},
	92: {"TestKeysThatDoNotEncodeAreRecordErrors"},
	94: {"TestProcessedRecordsOfRepartitionTopicsAreDeleted"},
	95: {"TestMissingSourceTopicIsAnError"},
	97: {"TestStandbysTakeOverWithoutReplay", "TestTasksMoveWhenTheirStateIsThere"},
	98: {"TestStateDirectoryInUseNamesTheProcess"},
	99: {"TestRepartitioningForReal", "TestRandomTopologiesEqualTheirModels"},
}

// notShown says why a number has no test.
var notShown = map[int]string{
	5:  "there is no idle policy: a task takes what is there",
	27: "foreign-key joins", 60: "the buffer of Suppress", 70: "joins make their own stores: there is none to be wrong",
	22: "global tables", 73: "global tables", 33: "versioned tables", 72: "versioned tables", 59: "Suppress",
	76: "foreign-key joins", 77: "foreign-key joins", 78: "foreign-key joins", 79: "foreign-key joins", 80: "foreign-key joins",
	81: "foreign-key joins", 82: "foreign-key joins",
	96: "Task.Commit asks for a commit at the next occasion: a matter of timing",
}

var (
	leadingNumbers = regexp.MustCompile(`^((?:\d{1,2}[a-z]?(?:-\d{1,2})?)(?:(?:, | and )\d{1,2}[a-z]?(?:-\d{1,2})?)*)(?:, as Leat decides)?:`)
	citedNumber    = regexp.MustCompile(`semantics\.md (\d{1,2})`)
)

// testSources parses the tests of the packages that the semantics are about.
func testSources(t *testing.T) (tests map[string]string) {
	t.Helper()
	tests = make(map[string]string)
	root := filepath.Join("..", "..")
	for _, room := range []string{"streams", "state", "serde"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
					tests[fn.Name.Name] = fn.Doc.Text()
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tests
}

// cites returns the numbers that a comment begins with, or names as those of the page.
func cites(doc string) (numbers []int) {
	if m := leadingNumbers.FindStringSubmatch(doc); m != nil {
		for part := range strings.SplitSeq(strings.ReplaceAll(m[1], " and ", ", "), ", ") {
			from, to, isRange := strings.Cut(strings.TrimRight(part, "abc"), "-")
			first, _ := strconv.Atoi(from)
			last := first
			if isRange {
				last, _ = strconv.Atoi(to)
			}
			for n := first; n <= last; n++ {
				numbers = append(numbers, n)
			}
		}
	}
	for _, m := range citedNumber.FindAllStringSubmatch(doc, -1) {
		n, _ := strconv.Atoi(m[1])
		numbers = append(numbers, n)
	}
	return numbers
}

// TestEveryNumberedSemanticHasATest goes through the numbers: each is cited by a test, or exercised by a recorded topology that
// is built here, or is on the list of those that wait for their operator.
func TestEveryNumberedSemanticHasATest(t *testing.T) {
	tests := testSources(t)
	shown := make(map[int][]string)
	for name, doc := range tests {
		for _, n := range cites(doc) {
			shown[n] = append(shown[n], name)
		}
	}
	for n, names := range shownBy {
		for _, name := range names {
			if _, ok := tests[name]; !ok {
				t.Errorf("%d is to be shown by %s, which does not exist", n, name)
			}
		}
		shown[n] = append(shown[n], names...)
	}
	for _, top := range readLines[vectorTopology](t, filepath.Join(vectorsDir(), "topologies.jsonl")) {
		if vectorTopologies[top.Name] == nil {
			continue
		}
		for _, s := range top.Semantics {
			n, _ := strconv.Atoi(strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz"))
			shown[n] = append(shown[n], "TestVectors/"+top.Name)
		}
	}
	for n := 1; n <= lastSemantic; n++ {
		why := notShown[n]
		switch {
		case len(shown[n]) == 0 && why == "":
			t.Errorf("%d has no test: write one whose comment begins with \"// %d: …\"", n, n)
		case len(shown[n]) == 0:
			t.Logf("%d is not shown: %s", n, why)
		case why != "":
			slices.Sort(shown[n])
			t.Logf("%d is shown by %s: take it off the list (%s)", n, shown[n][0], why)
		}
	}
}

// TestDeviationsHaveTests goes through docs/semantics.md: each row of what Leat decides otherwise names tests that exist, and
// each number of the list of decisions has a row.
func TestDeviationsHaveTests(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "semantics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "## Where Leat decides otherwise")
	if !ok {
		t.Fatal("the page has no part about what Leat decides otherwise")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	tests := testSources(t)
	name := regexp.MustCompile("`(Test\\w+)(?:/[^`]*)?`")
	rows := make(map[int]bool)
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || strings.Contains(line, "|---") || strings.TrimSpace(cells[1]) == "#" {
			continue
		}
		for part := range strings.SplitSeq(cells[1], ",") {
			from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
			first, err := strconv.Atoi(from)
			last := first
			if isRange {
				last, _ = strconv.Atoi(to)
			}
			for n := first; err == nil && n <= last; n++ {
				rows[n] = true
			}
		}
		named := name.FindAllStringSubmatch(cells[len(cells)-2], -1)
		if len(named) == 0 {
			t.Errorf("no test is named in the row %s", line)
		}
		for _, m := range named {
			if _, ok := tests[m[1]]; !ok {
				t.Errorf("the row of %s names %s, which does not exist", strings.TrimSpace(cells[1]), m[1])
			}
		}
	}
	// 86 is not decided otherwise yet: a restore brings back the bytes of a source table's topic as they are.
	for _, n := range []int{3, 38, 41, 43, 53, 54, 55, 58, 65, 66, 67, 84} {
		if !rows[n] {
			t.Errorf("%d is decided otherwise, and has no row", n)
		}
	}
}
