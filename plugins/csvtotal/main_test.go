package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

var setup = guesttest.Setup{Params: map[string]string{"by": "city", "sum": "price"}}

const header = "id,city,price"

func sales(data string) guesttest.Part {
	return guesttest.Part{Name: "sales.csv", Offset: 14, Header: header, Data: data}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	records, err := setup.Map(t, "map",
		sales("1,Bonn,0.10\r\n2,\"Köln, Süd\",1\n\n3,Bonn, 0.2 \n"),
		sales("4,Bonn,-1.005\n5,\"Say \"\"hi\"\"\",\"12.50\"\n6,,99999999999999999999.99\n7,Bonn,+.3"))
	if err != nil {
		t.Fatal(err)
	}
	// Combining some of it first must not change the totals.
	some := append(guesttest.Combine(t, "sum", records[:3]...), records[3:]...)
	got := guesttest.Reduce(t, "reduce", some...)
	want := guesttest.Pairs("", "99999999999999999999.99", "Bonn", "-0.405", "Köln, Süd", "1", `Say "hi"`, "12.50")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by, sum string
		part    guesttest.Part
		want    string
	}{
		{"city", "cost", sales(""), `sales.csv: there is no column "cost"; there are ["id" "city" "price"]`},
		{"", "price", sales(""), `needs a parameter "by"`},
		{"city", "price", guesttest.Part{Name: "a.csv"}, "a.csv: there is no header line"},
		{"city", "price", sales("1,Bonn,1\n2,Bonn,free\n"), `sales.csv: line 2 after byte 14 ("2,Bonn,free"): "free" is not a decimal number`},
		{"city", "price", sales("1,Bonn,\n"), `"" is not a decimal number`},
		{"city", "price", sales("1,Bonn\n"), "there are 2 fields, but column 3 is needed"},
		{"city", "price", sales("1,\"Bonn,1\n"), "a quoted field does not end"},
		{"city", "price", sales("1,\"Bonn\"x,1\n"), "text after a quoted field"},
	} {
		_, err := guesttest.Setup{Params: map[string]string{"by": c.by, "sum": c.sum}}.Map(t, "map", c.part)
		var failed *guesttest.Error
		if !errors.As(err, &failed) || !failed.Permanent || !strings.Contains(failed.Message, c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"0": "0", "-0.00": "0.00", ".5": "0.5", "-.05": "-0.05", "007": "7", "1.50": "1.50", "+3": "3"} {
		d, err := parse([]byte(in))
		if err != nil || string(d.append(nil)) != want {
			t.Errorf("%s became %s, %v", in, d.append(nil), err)
		}
	}
	for _, in := range []string{"", "-", ".", "1.", "1,5", "1e3", "0x1", "1.2.3", "--1", "NaN", "१", strings.Repeat("9", 102)} {
		if d, err := parse([]byte(in)); err == nil {
			t.Errorf("%q was read as %s", in, d.append(nil))
		}
	}
}
