from adatom.core.console import muted, print_table, progress, say, show


def test_results_go_to_stdout_and_messages_to_stderr(capsys):
    say("working")
    show("42")
    assert capsys.readouterr() == ("42\n", "working\n")


def test_table_shows_every_cell_whole(capsys):
    print_table("Errors", ["set", "RMSE"], [["[b]Cu[/b]", 1.23456789], ["x" * 100, None], ["n", 3]])
    out = capsys.readouterr().out
    assert "Errors" in out
    assert "[b]Cu[/b]" in out, "markup in data must stay text"
    assert "1.2346" in out
    assert "x" * 100 in out, "a pipe must not be cut to 80 columns"


def test_progress_tells_the_last_state_where_there_is_no_terminal(capsys):
    with progress("Training", 3) as bar:
        for _ in range(3):
            bar.advance(loss=0.25, phase="[a]")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") <= 2
    for text in ("Training", "3/3", "loss 0.25", "phase [a]"):
        assert text in err


def test_progress_without_a_total(capsys):
    with progress("Reading", None) as bar:
        bar.advance(5)
    assert "5/?" in capsys.readouterr().err


def test_muted_shows_nothing_and_only_there(capsys):
    with muted():
        say("working")
        show("42")
        print_table("Errors", ["set"], [["a"]])
        with progress("Training", 1) as bar:
            bar.advance(loss=0.5)
    assert capsys.readouterr() == ("", "")
    say("again")
    assert capsys.readouterr().err == "again\n"
