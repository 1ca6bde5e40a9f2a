"""The processes that train one item together: started, told what to do, watched, ended. No loss is computed here."""
